"""MobileNetV3-Large, with torchvision's names for every weight: light, with squeeze-and-excitation."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from atrous.networks.contracts import AtrousPlan, Backbone, FeatureLevel, FeatureShapes
from atrous.networks.layers.conv import DepthwiseConv
from atrous.networks.layers.recomputation import Layers
from atrous.networks.weight_files import PublishedFile

NORM_EPSILON = 1e-3


@dataclass(frozen=True)
class Unit:
    """One inverted unit, a row of the paper's table.

    Args:
        kernel: Side of the depthwise filter.
        width: Channels of the depthwise filter.
        channels: Output channels.
        squeeze: Channels between the two layers of squeeze-and-excitation; 0 for none.
        hard: Whether the activation is hard swish, else ReLU.
        stride: Stride in cells, 1 or 2.
        is_level: Whether the backbone returns the output.
    """

    kernel: int
    width: int
    channels: int
    squeeze: int
    hard: bool
    stride: int = 1
    is_level: bool = False


UNITS = (
    Unit(3, 16, 16, 0, hard=False, is_level=True),
    Unit(3, 64, 24, 0, hard=False, stride=2),
    Unit(3, 72, 24, 0, hard=False, is_level=True),
    Unit(5, 72, 40, 24, hard=False, stride=2, is_level=True),
    Unit(5, 120, 40, 32, hard=False),
    Unit(5, 120, 40, 32, hard=False),
    Unit(3, 240, 80, 0, hard=True, stride=2),
    Unit(3, 200, 80, 0, hard=True),
    Unit(3, 184, 80, 0, hard=True),
    Unit(3, 184, 80, 0, hard=True),
    Unit(3, 480, 112, 120, hard=True),
    Unit(3, 672, 112, 168, hard=True, is_level=True),
    Unit(5, 672, 160, 168, hard=True, stride=2),
    Unit(5, 960, 160, 240, hard=True),
    Unit(5, 960, 160, 240, hard=True),
)
STEM_CHANNELS, LAST_CHANNELS = 16, 960


class SqueezeExcite(nn.Module):
    """Weight each channel by a factor computed from the averages of all channels over the map.

    Args:
        channels: Channels of the features.
        squeezed: Channels between the two layers.
    Shapes:
        in and out (B, C, h, w).
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features times their weights in [0, 1]."""
        pooled = features.mean(dim=(2, 3), keepdim=True)
        return features * F.hardsigmoid(self.fc2(F.relu(self.fc1(pooled))))


class InvertedUnit(nn.Module):
    """Expand by 1x1, filter each channel, weight the channels, project by 1x1; a shortcut if the shape is unchanged.

    Args:
        in_channels: Channels of the features.
        unit: Row of the paper's table.
    Shapes:
        in (B, C, h, w); out (B, C', h / stride, w / stride).
    """

    def __init__(self, in_channels: int, unit: Unit) -> None:
        super().__init__()
        activation = nn.Hardswish if unit.hard else nn.ReLU
        layers: list[nn.Module] = []
        if unit.width != in_channels:
            layers.append(_append_norm(nn.Conv2d(in_channels, unit.width, 1, bias=False), activation))
        layers.append(_append_norm(DepthwiseConv(unit.width, unit.kernel, stride=unit.stride), activation))
        if unit.squeeze:
            layers.append(SqueezeExcite(unit.width, unit.squeeze))
        layers.append(_append_norm(nn.Conv2d(unit.width, unit.channels, 1, bias=False), nn.Identity))
        self.block = nn.Sequential(*layers)
        self.has_shortcut = unit.stride == 1 and in_channels == unit.channels

    def forward(self, features: Tensor) -> Tensor:
        """Return the layers' output, plus the shortcut if there is one."""
        out: Tensor = self.block(features)
        return features + out if self.has_shortcut else out


def _append_norm(convolution: nn.Conv2d, activation: type[nn.Module]) -> Layers:
    """Return a convolution followed by its norm and an activation."""
    return Layers(convolution, nn.BatchNorm2d(convolution.out_channels, eps=NORM_EPSILON), activation())


class MobileNetV3(Backbone):
    """The network without its classifier.

    Levels are the last features at each native stride; at stride 8 the first unit's, which torchvision's auxiliary head
    reads. Squeeze-and-excitation averages over the whole map, so features at another output stride differ by design.

    Shapes:
        in (B, 3, H, W); out five levels, native strides 2, 4, 8, 16, 32.
    Source: Howard et al. 2019 (arXiv 1905.02244), table 1; weight names as in torchvision.
    """

    strides = AtrousPlan("pooled")
    imagenet = PublishedFile("https://download.pytorch.org/models/mobilenet_v3_large-8738ca79.pth", "BSD-3-Clause")
    auxiliary_stride = 8

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Conv2d(3, STEM_CHANNELS, 3, stride=2, padding=1, bias=False)
        layers: list[nn.Module] = [_append_norm(stem, nn.Hardswish)]
        channels, stride, levels = STEM_CHANNELS, 2, []
        for unit in UNITS:
            layers.append(InvertedUnit(channels, unit))
            channels, stride = unit.channels, stride * unit.stride
            if unit.is_level:
                levels.append(FeatureLevel(channels=channels, native_stride=stride))
        layers.append(_append_norm(nn.Conv2d(channels, LAST_CHANNELS, 1, bias=False), nn.Hardswish))
        self.features = nn.Sequential(*layers)
        self.feature_shapes = FeatureShapes((*levels, FeatureLevel(LAST_CHANNELS, stride)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the levels, shallow to deep."""
        stem, *units, last = self.features
        features, levels = stem(image), []
        for unit, built_as in zip(units, UNITS, strict=True):
            features = unit(features)
            if built_as.is_level:
                levels.append(features)
        return [*levels, last(features)]


def build_mobilenet_v3_large() -> MobileNetV3:
    """MobileNetV3-Large: 3.0 million weights in the features."""
    return MobileNetV3()
