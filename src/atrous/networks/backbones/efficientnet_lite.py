"""EfficientNet-Lite 0 to 2: light, no squeeze-and-excitation, ReLU6, and so easy to make atrous and to run anywhere."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from atrous.networks.contracts import Backbone, FeatureLevel, FeatureShapes
from atrous.networks.layers.conv import DepthwiseConv

NORM_EPSILON = 1e-3
"""As in TensorFlow, where the weights come from."""


@dataclass(frozen=True)
class Stage:
    """Units of one kind in a row, as printed for the smallest network."""

    kernel: int
    stride: int
    expansion: int
    channels: int
    depth: int


STAGES = (
    Stage(3, 1, 1, 16, 1),
    Stage(3, 2, 6, 24, 2),
    Stage(5, 2, 6, 40, 2),
    Stage(3, 2, 6, 80, 3),
    Stage(5, 1, 6, 112, 3),
    Stage(5, 2, 6, 192, 4),
    Stage(3, 1, 6, 320, 1),
)


class InvertedUnit(nn.Module):
    """Widen by 1x1, filter each channel, narrow by 1x1; a shortcut where the shape stays.

    The first stage does not widen. (B, C, h, w) -> (B, C', h / stride, w / stride).
    """

    def __init__(self, in_channels: int, out_channels: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = in_channels * expansion
        layers: list[nn.Module] = []
        if expansion > 1:
            layers += [nn.Conv2d(in_channels, width, 1, bias=False), _norm(width), nn.ReLU6(inplace=True)]
        layers += [
            DepthwiseConv(width, kernel, stride=stride),
            _norm(width),
            nn.ReLU6(inplace=True),
            nn.Conv2d(width, out_channels, 1, bias=False),
            _norm(out_channels),
        ]
        self.layers = nn.Sequential(*layers)
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, features: Tensor) -> Tensor:
        """Add what was found to what came in, where the shape allows."""
        out: Tensor = self.layers(features)
        return features + out if self.has_shortcut else out


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=NORM_EPSILON)


def _round_channels(channels: float) -> int:
    """Round to a multiple of 8, never down by more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class EfficientNetLite(Backbone):
    """The network without its classifier, with symmetric padding, so that cells are centred on pixels.

    Modules stand in the order of the published weights, which are loaded by that order.

    Args:
        width: Factor on the channels of the middle stages.
        depth: Factor on the units of the middle stages, rounded up.
    Shapes:
        in (B, 3, H, W); out five levels, native strides 2, 4, 8, 16, 32.
    Source: Tan and Le 2019 (arXiv 1905.11946); the Lite variant of the TensorFlow TPU repository.
    """

    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)

    def __init__(self, *, width: float, depth: float) -> None:
        super().__init__()
        channels = 32
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 3, stride=2, padding=1, bias=False), _norm(channels), nn.ReLU6(inplace=True)
        )
        self.stages = nn.ModuleList()
        levels, stride = [], 2
        for number, stage in enumerate(STAGES):
            edge = number in (0, len(STAGES) - 1)
            units = []
            for position in range(stage.depth if edge else _round_up(stage.depth * depth)):
                out_channels = _round_channels(stage.channels * width)
                units.append(
                    InvertedUnit(
                        channels,
                        out_channels,
                        kernel=stage.kernel,
                        stride=stage.stride if position == 0 else 1,
                        expansion=stage.expansion,
                    )
                )
                channels = out_channels
            self.stages.append(nn.Sequential(*units))
            stride *= stage.stride
            levels.append(FeatureLevel(channels=channels, native_stride=stride))
        self.feature_shapes = FeatureShapes(
            tuple(
                level
                for level, after in zip(levels, [*levels[1:], None], strict=True)
                if after is None or after.native_stride > level.native_stride
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, picture: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> the last features at each native stride, shallow to deep."""
        features = self.stem(picture)
        levels = []
        for units, following in zip(self.stages, (*STAGES[1:], None), strict=True):
            features = units(features)
            if following is None or following.stride > 1:
                levels.append(features)
        return levels


def _round_up(number: float) -> int:
    return -int(-number // 1)


def build_lite0() -> EfficientNetLite:
    """EfficientNet-Lite0: 3.4 million weights in the features."""
    return EfficientNetLite(width=1.0, depth=1.0)


def build_lite1() -> EfficientNetLite:
    """EfficientNet-Lite1."""
    return EfficientNetLite(width=1.0, depth=1.1)


def build_lite2() -> EfficientNetLite:
    """EfficientNet-Lite2."""
    return EfficientNetLite(width=1.1, depth=1.2)
