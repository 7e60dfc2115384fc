from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from atrous.core.records import Protocol
from atrous.inference.backends import folding
from atrous.inference.backends.folding import find_pairs, fold_norms
from atrous.inference.backends.torch_eager import TorchEager
from atrous.networks.build import build_network_from
from atrous.networks.segmenter import Segmenter

CPU = torch.device("cpu")


def build(name: str = "deeplabv3-resnet18", **options) -> Segmenter:
    torch.manual_seed(0)
    network = build_network_from({"name": name, **options}, 5).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 2.0),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.3, 0.3),
            ):
                tensor.uniform_(low, high)
    return network


def count_norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    "name",
    [
        "deeplabv3-resnet18",
        "deeplabv3plus-lite0",
        "imagepyramid-resnet18",
        "pspnet-resnet18",
        "fcn-timm/mobilenetv2_100",
    ],
)
def test_no_norm_is_left_and_the_logits_are_the_same_at_both_strides(name):
    network = build(name)
    image = torch.rand(1, 3, 65, 97)
    for stride in (16, 8):
        with torch.no_grad(), fold_norms(network, CPU, output_stride=stride) as folded:
            assert count_norms(network) > 0
            assert count_norms(folded) == 0
            network.output_stride = stride
            expected = network.forward_cells(image).logits
            torch.testing.assert_close(folded.forward_cells(image).logits, expected, rtol=1e-4, atol=1e-4)


class TwoReaders(nn.Module):
    """A convolution that a norm and an addition read: folding it would change the sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 1)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, features):
        found = self.conv(features)
        return self.norm(found) + found


def test_a_convolution_that_something_else_reads_too_keeps_its_norm():
    network = build("fcn-resnet18")
    network.backbone.relu = nn.Sequential(nn.ReLU(), nn.Conv2d(64, 8, 1), TwoReaders(), nn.Conv2d(8, 64, 1))
    pairs = find_pairs(network)
    assert ("backbone.conv1", "backbone.bn1") in pairs
    assert not [norm for _, norm in pairs if norm.startswith("backbone.relu")]


def test_a_call_knows_what_was_learnt_before_it_and_the_copy_is_made_once():
    network = build("fcn-resnet18")
    backend = TorchEager(network, device=CPU, output_stride=16, precision="fp32")
    image = torch.randint(256, (1, 3, 33, 33), dtype=torch.uint8)
    before = backend(image).logits
    with fold_norms(network, CPU) as one, fold_norms(network, CPU) as other:
        assert one is other
    with torch.no_grad():
        network.head.classifier.bias.add_(1.0)
    torch.testing.assert_close(backend(image).logits, before + 1)


def test_the_network_is_left_as_it_is_also_in_training():
    network = build("fcn-resnet18").train()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    TorchEager(network, device=CPU, output_stride=8, precision="bf16")(torch.zeros(1, 3, 33, 33, dtype=torch.uint8))
    assert network.training
    assert network.output_stride == 16
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("name", ["fcn-resnet18", "fcn-lite0"])
def test_memory_is_measured_in_bf16_too(name):
    network = build(name)
    needed = [
        TorchEager(network, device=CPU, output_stride=16, precision=precision).measure_bytes_per_pixel()
        for precision in ("bf16", "fp32")
    ]
    assert 0 < needed[0] < needed[1]


def test_copies_go_with_their_network():
    network = build("fcn-resnet18")
    with fold_norms(network, CPU):
        pass
    gc.collect()  # what other tests left would go below, and be counted
    before = len(folding._FOLDED)
    del network
    gc.collect()
    assert len(folding._FOLDED) == before - 1


def test_backends_of_one_network_keep_their_own_strides():
    network = build("fcn-resnet18")
    coarse, fine = (
        TorchEager(network, device=CPU, output_stride=stride, precision=Protocol().precision) for stride in (16, 8)
    )
    image = torch.zeros(1, 3, 65, 65, dtype=torch.uint8)
    for _ in range(2):
        assert coarse(image).logits.shape[2:] == (5, 5)
        assert fine(image).logits.shape[2:] == (9, 9)


def test_threads_at_other_strides_do_not_meet_in_the_shared_copy():
    network = build("fcn-resnet18")
    image = torch.randint(256, (1, 3, 129, 97), dtype=torch.uint8)
    backends = [TorchEager(network, device=CPU, output_stride=stride, precision="fp32") for stride in (32, 8)]
    expected = [backend(image).logits for backend in backends]
    with ThreadPoolExecutor(4) as pool:
        for number, cells in enumerate(pool.map(lambda number: backends[number % 2](image), range(24))):
            torch.testing.assert_close(cells.logits, expected[number % 2], rtol=1e-4, atol=1e-4)
