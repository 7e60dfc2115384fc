from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from atrous.core.errors import ConfigError, UsageError
from atrous.core.inputs import ImageForm, InputSpec
from atrous.networks.contracts import UNPADDED, Backbone, FeatureLevel, FeatureShapes, FixedStride, SizeRule
from atrous.networks.heads.fcn import FCNHead
from atrous.networks.segmenter import Segmenter


@pytest.mark.parametrize(
    ("rule", "output_stride", "sizes"),
    [
        (SizeRule(), 16, {1: 1, 2: 33, 33: 33, 34: 65, 65: 65, 500: 513}),
        (SizeRule(), 64, {1: 1, 33: 65, 65: 65, 66: 129}),
        (SizeRule(32, 0, aligned=False), 16, {1: 32, 32: 32, 33: 64}),
        (SizeRule(14, 0, aligned=False), 14, {1: 14, 14: 14, 15: 28}),
        (UNPADDED, 16, {1: 1, 33: 33, 50: 50}),
    ],
)
def test_sides_are_padded_to_the_next_one_that_fits(rule: SizeRule, output_stride: int, sizes: dict[int, int]) -> None:
    assert {size: rule.pad(size, output_stride) for size in sizes} == sizes


def test_a_rule_describes_itself() -> None:
    assert SizeRule().describe() == "padded to 32k + 1, corners aligned"
    assert SizeRule(14, 0, aligned=False).describe() == "padded to 14k, half-pixel centres"
    assert UNPADDED.describe() == "as it is, half-pixel centres"
    for fields in ({"multiple": 0}, {"offset": 0}, {"aligned": False}):
        with pytest.raises(ValueError, match="multiple must be 1 or more"):
            SizeRule(**fields)


class Patches(Backbone):
    """Averages of patches of 16 x 16 pixels, as a transformer's first layer has them; two bands."""

    feature_shapes = FeatureShapes((FeatureLevel(2, 16),), centred=False)
    input_spec = InputSpec(mean=(0.0, 0.0), std=(1.0, 1.0), form=ImageForm(bands=(0, 1)))
    size_rule = SizeRule(16, 0, aligned=False)
    strides = FixedStride(16)

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(2, 2, 16, stride=16, groups=2, bias=False)
        nn.init.constant_(self.patches.weight, 1 / 256)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.patches(image)]


def build() -> Segmenter:
    """Return a network whose logits are its features."""
    head = FCNHead(Patches.feature_shapes, 2)
    nn.init.eye_(head.classifier.weight[:, :, 0, 0])
    return Segmenter(Patches(), head, num_classes=2, resize="half_pixel").eval()


def test_a_fixed_stride_refuses_others_and_changes_nothing() -> None:
    network = build()
    with pytest.raises(ConfigError, match=r"output stride 8: this backbone has one fixed stride, 16"):
        network.output_stride = 8
    assert network.output_stride == 16
    with pytest.raises(ConfigError, match=r"model\.resize: aligned needs cells centred on pixels"):
        Segmenter(Patches(), FCNHead(Patches.feature_shapes, 2), num_classes=2)


@pytest.mark.parametrize("size", [(1, 1), (64, 80), (87, 99), (5, 33)])
def test_padding_to_whole_patches_does_not_move_the_logits(size: tuple[int, int]) -> None:
    """A ramp stays a ramp. The usual mistake: cells of the padded image are stretched over the image alone."""
    network = build()
    ramp = torch.stack(
        [torch.linspace(0.2, 0.8, 100).expand(100, 100), torch.linspace(0.1, 0.9, 100)[:, None].expand(100, 100)]
    )
    image = ramp[None, :, : size[0], : size[1]]
    with torch.inference_mode():
        logits, cells = network(image), network.forward_cells(image)
    assert logits.shape == (1, 2, *size)
    assert cells.logits.shape[2:] == (cells.geometry.map_height, cells.geometry.map_width)
    rows, columns = (slice(24, max(side - side % 16 - 24, 24)) for side in size)  # where only whole patches count
    torch.testing.assert_close(logits[..., rows, columns], image[..., rows, columns], rtol=0, atol=1e-3)


def test_the_number_of_bands_is_the_backbones() -> None:
    with pytest.raises(UsageError, match=r"Give images \(B, 2, H, W\)"):
        build()(torch.rand(1, 3, 20, 20))
