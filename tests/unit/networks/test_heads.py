"""What the rival heads compute, against the same written out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atrous.core.errors import ConfigError
from atrous.core.inputs import InputSpec
from atrous.networks.contracts import Backbone, Extent, FeatureLevel, FeatureShapes, Geometry, Head
from atrous.networks.heads.deeplabv2 import DeepLabV2Head
from atrous.networks.heads.deeplabv3plus import DeepLabV3PlusHead
from atrous.networks.heads.imagepyramid import ImagePyramidHead
from atrous.networks.heads.pspnet import PSPNetHead
from atrous.networks.layers.resize import resample_cells
from atrous.networks.segmenter import Segmenter

SHAPES = FeatureShapes((FeatureLevel(4, 4), FeatureLevel(6, 32)))


def test_deeplabv2_sums_class_scores_over_rates() -> None:
    torch.manual_seed(0)
    head = DeepLabV2Head(SHAPES, 3, rates=(1, 2))
    head.set_output_stride(8)
    features = torch.randn(2, 6, 9, 11)
    expected = sum(
        F.conv2d(F.pad(features, (rate,) * 4), conv.weight, conv.bias, dilation=rate)
        for conv, rate in zip(head.classifiers, (2, 4), strict=True)
    )
    torch.testing.assert_close(head([features]), expected)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in head.modules())


def test_deeplabv2_has_the_papers_rates_at_stride_8_and_none_at_32() -> None:
    head = DeepLabV2Head(SHAPES, 3)
    assert head.compute_rates(8) == (6, 12, 18, 24)
    with pytest.raises(ConfigError, match=r"rate 3 at stride 16 becomes 1\.5"):
        head.set_output_stride(32)


def test_an_image_pyramids_rates_are_its_inner_heads() -> None:
    head = ImagePyramidHead(SHAPES, 3, head="deeplabv2")
    head.set_output_stride(8)
    assert head.compute_rates(8) == (6, 12, 18, 24)
    assert [conv.dilation[0] for conv in head.head.classifiers] == [6, 12, 18, 24]
    assert ImagePyramidHead(SHAPES, 3).compute_rates(8) == ()


def test_the_decoder_joins_context_and_detail_where_they_lie() -> None:
    """Corners lie on corners: eight cells of stride 4 for each of stride 32, counted from the first one's centre."""
    torch.manual_seed(0)
    head = DeepLabV3PlusHead(SHAPES, 3, rates=(1,), channels=8, low_level_channels=5, image_features=False).eval()
    features = [torch.randn(1, 4, 65, 65), torch.randn(1, 6, 9, 9)]

    @torch.inference_mode()
    def find_reached(level: int, cell: int) -> tuple[int, int]:
        """Return the first and the last row of logits that a change of one cell reaches."""
        changed = [values.clone() for values in features]
        changed[level][..., cell, cell] += 1
        logits, others = head(features, Extent()), head(changed, Extent())
        assert logits.shape == (1, 3, 65, 65)
        rows = (logits - others).abs().amax(dim=(0, 1, 3)).nonzero()
        return int(rows.min()), int(rows.max())

    # ASPP reaches cells 3 to 5, at 24 to 40 of stride 4; interpolation 7 further, and the decoder 2 on either side.
    assert find_reached(1, 4) == (24 - 7 - 2, 40 + 7 + 2)
    assert find_reached(0, 32) == (32 - 2, 32 + 2)
    assert [head.find_stride(stride) for stride in (32, 16, 8, 4)] == [4, 4, 4, 4]


def test_a_decoder_needs_a_level_at_stride_4() -> None:
    with pytest.raises(ConfigError, match="no level at stride 4, only at 8, 32"):
        DeepLabV3PlusHead(FeatureShapes((FeatureLevel(4, 8), FeatureLevel(6, 32))), 3)


def test_grids_and_scales_that_are_none_are_refused() -> None:
    for bins in ((), (0, 2)):
        with pytest.raises(ConfigError, match=r"model\.head\.bins"):
            PSPNetHead(SHAPES, 3, bins=bins)
    for scales in ((), (0.0, 1.0), (-1.0,)):
        with pytest.raises(ConfigError, match=r"model\.head\.scales"):
            ImagePyramidHead(SHAPES, 3, scales=scales)


@pytest.mark.parametrize(
    ("family", "options", "message"),
    [
        (DeepLabV3PlusHead, {"channels": 0}, "channels 0, low_level_channels 48, dropout 0.1 is out of range"),
        (DeepLabV3PlusHead, {"low_level_channels": 0}, "low_level_channels 0"),
        (DeepLabV3PlusHead, {"dropout": 1.0}, r"dropout 1\.0"),
        (PSPNetHead, {"channels": 0}, "channels 0, dropout 0.1 is out of range"),
        (PSPNetHead, {"dropout": -0.1}, r"dropout -0\.1"),
    ],
)
def test_filters_and_dropout_out_of_range_are_refused(
    family: type[Head], options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        family(SHAPES, 3, **options)


class Sampled(Backbone):
    """Each cell is the pixel under it, at stride 32."""

    input_spec = InputSpec(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    feature_shapes = FeatureShapes((FeatureLevel(3, 32),))

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Conv2d(3, 3, 1, stride=2, groups=3, bias=False) for _ in range(5)))
        for layer in self.layers:
            nn.init.ones_(layer.weight)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.layers(image)]


def build_pyramid(**options: object) -> Segmenter:
    torch.manual_seed(0)
    head = ImagePyramidHead(Sampled.feature_shapes, 3, **options)
    nn.init.dirac_(head.head.classifier.weight)
    return Segmenter(Sampled(), head, num_classes=3, output_stride=32).eval()


@pytest.mark.parametrize("fusion", ["max", "mean", "attention"])
def test_all_scales_see_the_same_place_in_the_same_cell(fusion: str) -> None:
    """A ramp is a ramp at every scale, so whatever way the scales are fused, the ramp comes out."""
    ramp = torch.linspace(0, 1, 129).expand(1, 3, 65, 129)
    network = build_pyramid(scales=(0.5, 1.0), fusion=fusion)
    with torch.inference_mode():
        logits = network.forward_cells(ramp).logits
    torch.testing.assert_close(logits, ramp[:, :, ::32, ::32], rtol=0, atol=1e-5)


@pytest.mark.parametrize("fusion", ["max", "mean", "attention"])
def test_scales_are_fused_as_named(fusion: str) -> None:
    torch.manual_seed(1)
    network = build_pyramid(scales=(0.5, 1.0), fusion=fusion)
    logits, features = torch.randn(2, 1, 3, 4, 5), torch.randn(2, 1, 3, 4, 5)
    with torch.inference_mode():
        fused = network.head.fuse(list(logits), list(features))
        if fusion == "attention":
            weights = network.head.attention(torch.cat(list(features), dim=1)).softmax(dim=1)
            expected = logits[0] * weights[:, :1] + logits[1] * weights[:, 1:]
        else:
            expected = torch.maximum(*logits) if fusion == "max" else (logits[0] + logits[1]) / 2
    torch.testing.assert_close(fused, expected)


def test_cells_are_resampled_where_they_lie() -> None:
    source, target = Geometry(65, 97, 65, 97, 16, True), Geometry(65, 97, 65, 97, 32, True)
    cells = torch.randn(2, 3, 5, 7)
    assert torch.equal(resample_cells(cells, source, target), cells[:, :, ::2, ::2])
    torch.testing.assert_close(resample_cells(cells, source, source), cells)
    finer = resample_cells(cells, source, Geometry(65, 97, 65, 97, 8, True))
    torch.testing.assert_close(finer, F.interpolate(cells, size=(9, 13), mode="bilinear", align_corners=True))
    halves = resample_cells(cells, Geometry(40, 56, 40, 56, 8, False), Geometry(80, 112, 80, 112, 8, False))
    torch.testing.assert_close(halves, F.interpolate(cells, size=(10, 14), mode="bilinear"))
