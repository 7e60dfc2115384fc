from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from atrous.inference.backends.folding import copy_network, find_pairs, fold_norms
from atrous.inference.backends.torch_eager import TorchEager
from atrous.networks.build import build_network_from
from atrous.networks.layers import ways
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
    folded = fold_norms(network, CPU)
    assert count_norms(network) > 0
    assert count_norms(folded) == 0
    for stride in (16, 8):
        network.output_stride = folded.output_stride = stride
        with torch.no_grad():
            expected = network.forward_cells(image).logits
            torch.testing.assert_close(folded.forward_cells(image).logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        lambda conv: prune.l1_unstructured(conv, "weight", 0.5),
        lambda conv: parametrizations.weight_norm(conv),
        lambda conv: parametrizations.spectral_norm(conv),
    ],
    ids=["pruned", "weight_norm", "spectral_norm"],
)
def test_weights_that_are_computed_from_others_are_multiplied_by_tap_too(change, monkeypatch):
    monkeypatch.setattr(ways, "KIND", "amx")
    monkeypatch.setattr(ways, "MANY_CHANNELS", 256)
    network = build("deeplabv3-resnet18", head={"rates": [2, 4]})
    change(network.head.aspp.atrous[0].spatial.conv)
    image = torch.rand(1, 3, 65, 97)
    folded = fold_norms(network.eval(), CPU, torch.bfloat16)
    with torch.no_grad():
        expected = network.forward_cells(image).logits
        with torch.autocast("cpu", torch.bfloat16):
            found = folded.forward_cells(image).logits
    assert float((found.float() - expected).norm() / expected.norm()) < 0.03


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


def test_the_network_is_left_as_it_is_also_in_training():
    network = build("fcn-resnet18").train()
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folded = fold_norms(network, CPU, torch.bfloat16)
    folded.output_stride = 8
    assert not folded.training
    assert network.training
    assert network.output_stride == 16
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("name", ["fcn-resnet18", "fcn-lite0"])
def test_memory_is_measured_in_bf16_too(name):
    network = build(name)
    needed = [
        TorchEager(fold_norms(network, CPU, dtype), device=CPU, precision=precision).measure_bytes_per_pixel()
        for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32))
    ]
    assert 0 < needed[0] < needed[1]


def test_a_copy_that_shares_weights_has_an_output_stride_of_its_own():
    network = build("fcn-resnet18")
    twin = copy_network(network, share_weights=True)
    twin.output_stride = 8
    assert network.output_stride == 16
    assert [tensor.data_ptr() for tensor in twin.parameters()] == [tensor.data_ptr() for tensor in network.parameters()]
    image = torch.zeros(1, 3, 65, 65)
    with torch.no_grad():
        assert twin.forward_cells(image).logits.shape[2:] == (9, 9)
        assert network.forward_cells(image).logits.shape[2:] == (5, 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_network_in_another_precision_runs_with_its_rounded_weights(dtype):
    rounded = build("fcn-lite0").to(dtype).float()
    for own in (torch.float32, torch.bfloat16):
        given, expected = (fold_norms(n, CPU, own).state_dict() for n in (build("fcn-lite0").to(dtype), rounded))
        assert given.keys() == expected.keys()
        for name, tensor in given.items():
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=0, msg=name)


def test_the_default_dtype_of_the_caller_changes_nothing():
    torch.set_default_dtype(torch.float64)
    try:
        folded = fold_norms(build("fcn-lite0"), CPU)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {parameter.dtype for parameter in folded.parameters()} == {torch.float32}
