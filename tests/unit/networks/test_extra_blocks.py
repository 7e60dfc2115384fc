"""Blocks 5 to 7 of the cascade: what they start from, and the rates that the paper prints."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from atrous.core.errors import ConfigError
from atrous.networks.backbones.efficientnet_lite import LAST_STRIDED, build_lite0
from atrous.networks.backbones.resnet import build_resnet18, build_resnet50
from atrous.networks.build import build_network_from, describe_network
from atrous.networks.stride import StridePlanner


def read_block_rates(planner: StridePlanner) -> list[list[int]]:
    """Return the rates of the 3x3 convolutions of block4 to block7."""
    return [
        [site.rate for site in planner.sites if site.name.startswith(f"layer{block}.") and max(site.kernel) == 3]
        for block in (4, 5, 6, 7)
    ]


@pytest.mark.parametrize(
    ("multi_grid", "first_unit_rate", "expected"),
    [
        (None, "uniform", [[2, 2, 2], [4, 4, 4], [8, 8, 8], [16, 16, 16]]),
        ((1, 2, 4), "uniform", [[2, 4, 8], [4, 8, 16], [8, 16, 32], [16, 32, 64]]),
        ((1, 2, 1), "uniform", [[2, 4, 2], [4, 8, 4], [8, 16, 8], [16, 32, 16]]),
        (None, "exact", [[1, 2, 2], [2, 4, 4], [4, 8, 8], [8, 16, 16]]),
    ],
)
def test_rates_at_output_stride_16(multi_grid, first_unit_rate, expected) -> None:
    with torch.device("meta"):
        backbone = build_resnet50(multi_grid=multi_grid, extra_blocks=3)
    planner = StridePlanner(backbone, build_stride=16, first_unit_rate=first_unit_rate)
    assert read_block_rates(planner) == expected


@pytest.mark.parametrize("extra_blocks", range(4))
def test_each_extra_block_doubles_the_native_stride(extra_blocks: int) -> None:
    for build, channels in ((build_resnet50, 2048), (build_lite0, 320)):
        with torch.device("meta"):
            backbone = build(extra_blocks=extra_blocks)
        planner = StridePlanner(backbone, build_stride=16)
        assert planner.native_stride == 32 * 2**extra_blocks
        assert backbone.feature_shapes.deepest.channels == channels
        planner.set_output_stride(planner.native_stride)
        assert {site.rate for site in planner.sites} == {1}


def test_copies_start_from_block4_and_its_second_unit() -> None:
    backbone = build_resnet50(extra_blocks=2)
    with torch.no_grad():
        for parameter in backbone.layer4.parameters():
            parameter.normal_()
    backbone.start_extra_blocks()
    for block in (backbone.layer5, backbone.layer6):
        for unit, source in zip(block, (1, 1, 2), strict=True):
            for name, tensor in unit.state_dict().items():
                assert torch.equal(tensor, backbone.layer4[source].state_dict()[name])
    with torch.no_grad():  # they are copies, not the same weights
        backbone.layer5[1].conv2.weight.zero_()
    assert backbone.layer4[1].conv2.weight.abs().sum() > 0


def test_lite_copies_its_last_strided_stage() -> None:
    backbone = build_lite0(extra_blocks=1)
    for position, unit in enumerate(backbone.extra[0]):
        source = backbone.stages[LAST_STRIDED][max(position, 1)].state_dict()
        assert all(torch.equal(tensor, source[name]) for name, tensor in unit.state_dict().items())


def test_the_published_weights_keep_their_places() -> None:
    """Lite's file is read in the order of its tensors: those of the extra blocks come last."""
    plain, cascade = build_lite0().state_dict(), build_lite0(extra_blocks=2).state_dict()
    assert list(cascade)[: len(plain)] == list(plain)


def test_parameters_follow_the_arithmetic() -> None:
    """A bottleneck unit of 2048 channels: 2048 x 512 + 9 x 512 x 512 + 512 x 2048 weights and its norms'."""
    unit = 2048 * 512 * 2 + 9 * 512 * 512 + 2 * (512 + 512 + 2048)
    with torch.device("meta"):
        sizes = [sum(p.numel() for p in build_resnet50(extra_blocks=n).parameters()) for n in range(4)]
    assert [after - before for before, after in itertools.pairwise(sizes)] == [3 * unit] * 3


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("deeplabv3-lite0", {"extra_blocks": 1}, "is no cascade"),
        ("deeplabv3-cascade-lite0", {"extra_blocks": 4}, "extra_blocks"),
        ("deeplabv3-cascade-timm/resnet18", {}, "has no extra blocks for a cascade"),
        ("deeplabv3-cascade-lite0", {"multi_grid": [1, 2, 1]}, "has no multi-grid"),
        ("deeplabv3-cascade-resnet50", {"output_stride": 128, "extra_blocks": 1}, "Allowed: 4, 8, 16, 32, 64"),
    ],
)
def test_what_cannot_be_is_refused_in_words(name, options, words) -> None:
    with pytest.raises(ConfigError, match=words):
        build_network_from({"name": name, **options}, 3)


def test_a_cascade_has_three_extra_blocks_unless_told() -> None:
    assert len(describe_network("deeplabv3-cascade-resnet18")["levels"]) == 7
    assert len(describe_network("deeplabv3-cascade-resnet18", extra_blocks=0)["levels"]) == 4


@pytest.mark.parametrize("build", [build_resnet18, pytest.param(build_lite0, marks=pytest.mark.slow)])
def test_features_at_smaller_strides_subsampled_are_those_at_256(build) -> None:
    """The atrous identity, with every norm drawn at random so that no branch is silent."""
    torch.manual_seed(0)
    backbone = build(extra_blocks=3).double().eval()
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in ((module.running_mean, -0.3, 0.3), (module.running_var, 0.5, 2.0)):
                tensor.uniform_(low, high)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    planner = StridePlanner(backbone, build_stride=256)
    image = torch.randn(1, 3, 257, 40, dtype=torch.float64)
    with torch.inference_mode():
        reference = backbone(image)[-1]
        assert reference.shape[2:] == (2, 1)
        assert reference.std() > 0
        for output_stride in (128, 64, 32, 16):
            planner.set_output_stride(output_stride)
            step = 256 // output_stride
            features = backbone(image)[-1][:, :, ::step, ::step]
            assert (features - reference).abs().max() / reference.abs().max() < 1e-12
        fresh = build(extra_blocks=3).double().eval()
        fresh.load_state_dict(backbone.state_dict())
        StridePlanner(fresh, build_stride=16)
        assert torch.equal(fresh(image)[-1], backbone(image)[-1])
