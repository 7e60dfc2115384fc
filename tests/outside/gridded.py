"""A backbone with multi-grid, as somebody outside the package writes one."""

from __future__ import annotations

from torch import Tensor, nn

from atrous.networks.contracts import AtrousPlan, Backbone, FeatureLevel, FeatureShapes


def build_layer(in_channels: int, out_channels: int, *, stride: int = 1, rate: int = 1) -> nn.Sequential:
    """Return a 3x3 convolution with its norm and ReLU."""
    conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=rate, dilation=rate, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())


class Gridded(Backbone):
    """Four strided layers and a last block of two units. Its modules have the names of others' extra blocks.

    Args:
        multi_grid: Unit rates of the last block.
    """

    strides = AtrousPlan("exact")

    def __init__(self, *, multi_grid: tuple[int, ...] = (1, 1)) -> None:
        super().__init__()
        self.extra = nn.Sequential(build_layer(3, 4, stride=2), build_layer(4, 4, stride=2))
        self.backbone = nn.Sequential(build_layer(4, 8, stride=2), build_layer(8, 8, stride=2))
        self.layer5 = nn.Sequential(
            *(build_layer(8, 8, stride=1 + (n == 0), rate=rate) for n, rate in enumerate(multi_grid))
        )
        self.feature_shapes = FeatureShapes((FeatureLevel(4, 4), FeatureLevel(8, 16), FeatureLevel(8, 32)))

    def forward(self, image: Tensor) -> list[Tensor]:
        low = self.extra(image)
        middle = self.backbone(low)
        return [low, middle, self.layer5(middle)]
