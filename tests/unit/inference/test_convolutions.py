from __future__ import annotations

from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from atrous.core.errors import ConfigError, UsageError
from atrous.core.machine import Kind
from atrous.inference import convolutions
from atrous.inference.convolutions import describe_convolutions, list_convolutions
from atrous.model import Model
from atrous.networks.build import build_network_from
from atrous.networks.layers import conv as conv_module
from atrous.networks.layers import ways
from atrous.networks.layers.atrous import Taps, Ways
from atrous.networks.layers.conv import Conv, DepthwiseConv
from atrous.networks.layers.lean import set_lean
from atrous.networks.segmenter import Segmenter

CPU = torch.device("cpu")
SIZE = (97, 129)


@pytest.fixture
def network() -> Segmenter:
    """A network with a wide rate, and a depthwise convolution that the planner finds."""
    built = build_network_from({"name": "deeplabv3-tiny", "weights": "none", "head": {"rates": [1, 4]}}, 3)
    built.head.aspp.atrous[0].spatial.conv = DepthwiseConv(8, 3, rate=2)
    built.head.aspp.atrous[0].pointwise = nn.Sequential(nn.Conv2d(8, 256, 1), nn.ReLU())
    built.head.aspp.atrous[0].spatial.norm = nn.BatchNorm2d(8)
    return built.eval()


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("is_training", [False, True])
def test_what_is_said_is_what_is_computed(
    network: Segmenter, kind: Kind, precision: str, is_training: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "KIND", kind)
    said = list_convolutions(network, SIZE, precision=precision, device=CPU, is_training=is_training)
    computed: dict[tuple[object, ...], Ways] = {}
    convolve = conv_module.convolve

    def watch(features: Tensor, weight: Tensor, bias: Tensor | None, taps: Taps, chosen: Ways) -> Tensor:
        key = (weight.shape[0], features.shape[1], taps.kernel, taps.rate, tuple(features.shape[2:]))
        computed[key] = chosen
        return convolve(features, weight, bias, taps, chosen)

    monkeypatch.setattr(conv_module, "convolve", watch)
    with torch.set_grad_enabled(is_training), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        network.train(is_training).forward_cells(network.make_blank(2, *SIZE))
    assert {(each.rate, each.map) for each in said} >= {((2, 2), (7, 9)), ((4, 4), (7, 9))}
    for each in said:
        key = (each.filters, each.channels, each.kernel, each.rate, each.map)
        found = computed.get(key, Ways())
        assert found.output == each.output, each
        if is_training:
            assert (found.of_features, found.of_weight) == (each.of_features, each.of_weight)
    assert computed.keys() <= {(each.filters, each.channels, each.kernel, each.rate, each.map) for each in said}


def test_nothing_is_computed_and_nothing_changes(network: Segmenter) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    calls: list[str] = []
    network.head.register_forward_hook(lambda *_: calls.append("hook"))
    listed = list_convolutions(network, SIZE, precision="fp32", device=CPU, output_stride=8, is_training=True)
    assert {each.map for each in listed} == {(13, 17)}
    assert {each.rate for each in listed} >= {(8, 8)}
    assert network.output_stride == 16
    assert network.training
    assert calls == []
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(module.lean for module in network.modules() if isinstance(module, conv_module.Conv))


def test_reasons_that_are_not_the_rule(network: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "KIND", "avx2")
    on_gpu = list_convolutions(network, SIZE, precision="fp32", device=torch.device("cuda"))
    assert {each.why["output"] for each in on_gpu} == {convolutions.OTHER_DEVICE}
    set_lean(network, False)
    off = list_convolutions(network, SIZE, precision="fp32", device=CPU)
    assert {each.why["of_weight"] for each in off} == {convolutions.SWITCHED_OFF}
    assert {each.of_weight for each in off} == {"library"}
    for module in network.modules():
        if isinstance(module, Conv):
            module.__class__ = nn.Conv2d
    plain = list_convolutions(network, SIZE, precision="fp32", device=CPU)
    assert {each.why["of_weight"] for each in plain} == {convolutions.PLAIN_CLASS}


def test_one_line_counts_each_way(network: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "KIND", "avx2")
    listed = list_convolutions(network, SIZE, precision="fp32", device=CPU)
    assert describe_convolutions(listed, CPU) == (
        "convolutions on avx2: output 3 by library; features' gradient 2 by library, 1 by mirroring; "
        "weight gradient 1 by phases, 2 by taps"
    )
    assert describe_convolutions([], CPU) == "convolutions on avx2: all by library"


def test_beside_a_gpu_the_kind_of_the_cpu_does_not_count(network: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    device, said = torch.device("cuda", 1), set()
    for kind in get_args(Kind):
        monkeypatch.setattr(ways, "KIND", kind)
        listed = list_convolutions(network, SIZE, precision="fp32", device=device, is_training=True)
        said.add(describe_convolutions(listed, device))
    [line] = said
    assert line.startswith("convolutions on cuda: output 2 by library; ")


def test_a_model_answers_for_its_backend_and_precision(network: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ways, "KIND", "amx")
    monkeypatch.setattr(ways, "MANY_CHANNELS", 4)
    model = Model(network, classes=["a", "b", "c"])

    def find_output(**opening: str) -> tuple[str, str]:
        [wide] = [each for each in model.reopen(**opening).list_convolutions(SIZE) if each.rate == (4, 4)]
        return wide.output, wide.why["output"]

    assert find_output(precision="bf16") == ("taps", ways.SLOW_FAR)
    assert find_output(precision="fp32") == ("library", ways.FASTEST)
    assert find_output(precision="bf16", backend="compile") == ("library", convolutions.PLAIN)
    with pytest.raises(ConfigError, match="onnxruntime"):
        find_output(precision="bf16", backend="onnxruntime")


def test_an_exported_file_is_refused(export_tiny: object) -> None:
    import atrous

    with pytest.raises(UsageError, match="exported file"):
        atrous.load(export_tiny("onnx")).list_convolutions(SIZE)  # type: ignore[operator]
