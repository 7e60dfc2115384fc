from __future__ import annotations

import pytest
import torch

from atrous.networks.build import build_network_from
from atrous.training.ema import AveragedNetwork


def build(seed):
    torch.manual_seed(seed)
    network = build_network_from({"name": "fcn-tiny", "weights": "none"}, 3)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.normal_()
            else:
                tensor.fill_(seed)
    return network


def test_the_average_is_that_of_the_naive_formula_with_its_warm_up():
    networks = [build(seed) for seed in range(4)]
    averaged = AveragedNetwork(networks[0], decay=0.15)
    name = "backbone.blocks.0.0.weight"
    expected = networks[0].state_dict()[name].double().clone()
    for step, (network, decay) in enumerate(zip(networks[1:], (1 / 10, 0.15, 0.15), strict=True)):  # 2 / 11 is above it
        averaged.update(network, step)
        expected = decay * expected + (1 - decay) * network.state_dict()[name].double()
        torch.testing.assert_close(averaged.network.state_dict()[name].double(), expected, rtol=1e-5, atol=1e-6)


def test_statistics_are_averaged_and_counters_are_copied():
    first, second = build(2), build(7)
    averaged = AveragedNetwork(first, decay=0.99)
    averaged.update(second, 10**6)
    own = averaged.network.state_dict()
    mean = "backbone.blocks.0.1.running_mean"
    expected = first.state_dict()[mean] * 0.99 + second.state_dict()[mean] * 0.01
    torch.testing.assert_close(own[mean], expected)
    assert own["backbone.blocks.0.1.num_batches_tracked"].item() == 7
    assert own["backbone.blocks.0.1.num_batches_tracked"].dtype == torch.int64


def test_a_decay_of_zero_keeps_the_networks_own_weights_bit_by_bit():
    averaged, network = AveragedNetwork(build(0), decay=0.0), build(1)
    averaged.update(network, 3)
    for name, tensor in averaged.network.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name]), name


def test_the_average_of_equal_weights_does_not_drift():
    network = build(0)
    averaged = AveragedNetwork(network, decay=0.9)
    for step in range(50):
        averaged.update(network, step)
    for name, tensor in averaged.network.state_dict().items():
        assert torch.equal(tensor, network.state_dict()[name]), name


def test_the_average_is_apart_from_the_network_and_learns_nothing():
    network = build(0)
    averaged = AveragedNetwork(network, decay=0.9)
    shared = {p.data_ptr() for p in network.parameters()} & {p.data_ptr() for p in averaged.network.parameters()}
    assert shared == set()
    assert not any(p.requires_grad for p in averaged.network.parameters())
    assert all(p.requires_grad for p in network.parameters())
    averaged.network.output_stride = 8
    assert network.output_stride == 16
    assert [site.rate for site in network.sites] != [site.rate for site in averaged.network.sites]


@pytest.mark.parametrize("step", [0, 1, 8])
def test_a_short_run_is_not_left_with_its_first_weights(step):
    averaged, network = AveragedNetwork(build(0), decay=0.9999), build(1)
    for number in range(step + 1):
        averaged.update(network, number)
    name = "head.classifier.weight"
    left = (averaged.network.state_dict()[name] - network.state_dict()[name]).norm()
    first = (build(0).state_dict()[name] - network.state_dict()[name]).norm()
    assert left < 0.11 * first
