from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atrous.core.errors import ConfigError
from atrous.networks.backbones.resnet import build_resnet18, build_resnet50
from atrous.networks.build import build_network_from, describe_network
from atrous.networks.contracts import Backbone, FeatureLevel, FeatureShapes
from atrous.networks.stride import StridePlanner, probe_backbone


def read_rates(planner: StridePlanner, block: str) -> list[int]:
    return [site.rate for site in planner.sites if site.name.startswith(block) and max(site.kernel) == 3]


def build_planner(output_stride: int, first_unit_rate: str = "exact", multi_grid: tuple[int, ...] | None = None):
    with torch.device("meta"):
        backbone = build_resnet50(multi_grid=multi_grid)
    return StridePlanner(backbone, build_stride=output_stride, first_unit_rate=first_unit_rate)


@pytest.mark.parametrize(
    ("output_stride", "first_unit_rate", "multi_grid", "block3", "block4"),
    [
        (32, "exact", None, [1] * 6, [1, 1, 1]),
        (16, "exact", None, [1] * 6, [1, 2, 2]),
        (8, "exact", None, [1, 2, 2, 2, 2, 2], [2, 4, 4]),
        (4, "exact", None, [2, 4, 4, 4, 4, 4], [4, 8, 8]),
        (16, "exact", (1, 2, 4), [1] * 6, [1, 4, 8]),
        (8, "exact", (1, 2, 4), [1, 2, 2, 2, 2, 2], [2, 8, 16]),
        (32, "exact", (1, 2, 4), [1] * 6, [1, 2, 4]),
        (16, "uniform", None, [1] * 6, [2, 2, 2]),
        (8, "uniform", None, [2] * 6, [4, 4, 4]),
        (16, "uniform", (1, 2, 4), [1] * 6, [2, 4, 8]),
        (16, "exact", (2, 2, 2), [1] * 6, [2, 4, 4]),
    ],
)
def test_rates_are_the_printed_ones(output_stride, first_unit_rate, multi_grid, block3, block4) -> None:
    planner = build_planner(output_stride, first_unit_rate, multi_grid)
    assert read_rates(planner, "layer3") == block3
    assert read_rates(planner, "layer4") == block4


def test_uniform_relabels_at_the_build_stride_only_and_scales_from_there() -> None:
    planner = build_planner(16, "uniform")
    rates = {}
    for output_stride in (32, 16, 8, 4):
        planner.set_output_stride(output_stride)
        rates[output_stride] = (read_rates(planner, "layer3")[:2], read_rates(planner, "layer4"))
    assert rates == {
        32: ([1, 1], [2, 1, 1]),
        16: ([1, 1], [2, 2, 2]),
        8: ([1, 2], [4, 4, 4]),
        4: ([2, 4], [8, 8, 8]),
    }


def draw_norms(network: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
                module.weight.uniform_(0.5, 1.5, generator=generator)
                module.bias.normal_(0, 0.3, generator=generator)
    return network.double().eval()


def test_a_live_switch_of_a_uniform_network_keeps_its_features() -> None:
    """The usual mistake: re-labelling again at 8, which changes block3 too."""
    torch.manual_seed(0)
    backbone = draw_norms(build_resnet18())
    image = torch.randn(1, 3, 97, 65, dtype=torch.float64)
    planner = StridePlanner(backbone, build_stride=16, first_unit_rate="uniform")
    with torch.inference_mode():
        at_16 = backbone(image)[-1]
        planner.set_output_stride(8)
        at_8 = backbone(image)[-1]
        planner.set_output_stride(16)
        again = backbone(image)[-1]
        built_for_8 = draw_norms(build_resnet18())
        built_for_8.load_state_dict(backbone.state_dict())
        StridePlanner(built_for_8, build_stride=8, first_unit_rate="uniform")
        relabelled = built_for_8(image)[-1]
    scale = at_16.abs().max()
    assert (at_8[:, :, ::2, ::2] - at_16).abs().max() / scale < 1e-12
    assert torch.equal(again, at_16)
    assert (relabelled - at_8).abs().max() / scale > 0.01


def test_one_knob_doubles_the_heads_rates_and_halves_the_cells() -> None:
    described = {stride: describe_network("deeplabv3-resnet50", stride) for stride in (16, 8)}
    assert described[16]["head_rates"] == [6, 12, 18]
    assert described[8]["head_rates"] == [12, 24, 36]
    assert [level["stride"] for level in described[16]["levels"]] == [4, 8, 16, 16]
    assert [level["stride"] for level in described[8]["levels"]] == [4, 8, 8, 8]
    rates = {row["name"]: row["dilation"] for row in described[8]["rates"]}
    assert [rates[f"backbone.layer4.{unit}.conv2"] for unit in range(3)] == [2, 4, 4]


def test_weights_are_never_touched() -> None:
    backbone = build_resnet18()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    planner = StridePlanner(backbone, build_stride=32)
    for output_stride in (4, 16):
        planner.set_output_stride(output_stride)
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


def test_a_copied_network_has_a_planner_of_its_own() -> None:
    """The usual mistake: the copy's switch reaches into the first network, as an averaged model would in training."""
    network = build_network_from({"name": "fcn-resnet18"}, 2).eval()
    other = copy.deepcopy(network)
    other.output_stride = 8
    image = torch.rand(1, 3, 65, 65)
    with torch.inference_mode():
        assert network.forward_cells(image).logits.shape[2:] == (5, 5)
        assert other.forward_cells(image).logits.shape[2:] == (9, 9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_probe_takes_networks_of_any_precision(dtype: torch.dtype) -> None:
    probe = probe_backbone(build_resnet18().to(dtype))
    assert [level.native_stride for level in probe.shapes.levels] == [4, 8, 16, 32]


class Chain(Backbone):
    """A few modules in a row, as a backbone of one level."""

    def __init__(self, *modules: nn.Module, stride: int, resize: float = 1.0) -> None:
        super().__init__()
        self.modules_in_row = nn.Sequential(*modules)
        self.resize = resize
        self.feature_shapes = FeatureShapes((FeatureLevel(3, stride),))

    def forward(self, image: Tensor) -> list[Tensor]:
        features = self.modules_in_row(image)
        if self.resize != 1.0:
            features = F.interpolate(features, scale_factor=self.resize)
        return [features]


def halve(kernel: int = 3, **options: object) -> nn.Conv2d:
    return nn.Conv2d(3, 3, kernel, stride=2, padding=kernel // 2, bias=False, **options)


def test_a_resize_between_the_modules_is_found_by_the_rehearsal() -> None:
    """No hook sees it, so a plan made from modules alone would be wrong without a word."""
    network = Chain(halve(), halve(), halve(), halve(), stride=32, resize=0.5)
    with pytest.raises(ConfigError, match=r"output stride 16: level 0 .* resizes between its modules"):
        StridePlanner(network, build_stride=16)


@pytest.mark.parametrize(
    ("module", "why"),
    [
        (nn.AvgPool2d(2), "AvgPool2d"),
        (nn.Conv2d(3, 3, 2, stride=2), "even kernel"),
        (nn.MaxPool2d(2), "even kernel"),
        (nn.MaxPool2d(3, 2, padding=0, ceil_mode=True), "padding"),
        (nn.PixelUnshuffle(2), "PixelUnshuffle"),
    ],
)
def test_modules_without_an_atrous_form_are_refused_where_they_would_change(module: nn.Module, why: str) -> None:
    tail = nn.Conv2d(12, 3, 1) if isinstance(module, nn.PixelUnshuffle) else nn.Identity()
    network = Chain(halve(), halve(), halve(), halve(), module, tail, stride=32)
    with pytest.raises(ConfigError, match=why) as caught:
        StridePlanner(network, build_stride=16)
    assert "modules_in_row.4" in str(caught.value)


def test_five_by_five_windows_and_one_by_one_strides_follow_the_rule() -> None:
    torch.manual_seed(0)
    last = nn.Conv2d(3, 3, (3, 5), padding=(1, 2))
    network = Chain(halve(5), nn.MaxPool2d(3, 2, 1), halve(), halve(1), halve(5, groups=3), last, stride=32).double()
    planner = StridePlanner(network, build_stride=32)
    image = torch.randn(1, 3, 131, 97, dtype=torch.float64)
    with torch.inference_mode():
        reference = network(image)[0]
        for output_stride in (16, 8, 4):
            planner.set_output_stride(output_stride)
            step = 32 // output_stride
            torch.testing.assert_close(network(image)[0][:, :, ::step, ::step], reference, rtol=1e-12, atol=1e-12)


def test_multi_grid_must_have_one_rate_a_unit() -> None:
    for multi_grid in ((1, 2), (1, 2, 0), ()):
        with pytest.raises(ConfigError, match="Block4 has 3 units"):
            build_resnet50(multi_grid=multi_grid)
