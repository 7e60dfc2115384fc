"""ResNet-18 to -152, with torchvision's names for every weight."""

from __future__ import annotations

from torch import Tensor, nn

from atrous.core.errors import ConfigError
from atrous.networks.contracts import Backbone, FeatureLevel, FeatureShapes

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _conv(in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, rate: int = 1) -> nn.Conv2d:
    padding = rate * (kernel // 2)
    return nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=padding, dilation=rate, bias=False)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return nn.Sequential(_conv(in_channels, out_channels, 1, stride=stride), nn.BatchNorm2d(out_channels))


class BasicUnit(nn.Module):
    """Two 3x3 convolutions and a shortcut. (B, C, h, w) -> (B, width, h / stride, w / stride)."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, *, stride: int = 1, rate: int = 1) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, width, 3, stride=stride, rate=rate)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, rate=rate)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(in_channels, width, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Add what the convolutions found to what came in."""
        out = self.relu(self.bn1(self.conv1(features)))
        out = self.bn2(self.conv2(out))
        shortcut = features if self.downsample is None else self.downsample(features)
        summed: Tensor = self.relu(out + shortcut)
        return summed


class BottleneckUnit(nn.Module):
    """1x1, 3x3 (strided) and 1x1 convolutions and a shortcut. (B, C, h, w) -> (B, 4 width, h / stride, w / stride)."""

    expansion = 4

    def __init__(self, in_channels: int, width: int, *, stride: int = 1, rate: int = 1) -> None:
        super().__init__()
        out_channels = width * self.expansion
        self.conv1 = _conv(in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv(width, width, 3, stride=stride, rate=rate)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv(width, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _shortcut(in_channels, out_channels, stride)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Add what the convolutions found to what came in."""
        out = self.relu(self.bn1(self.conv1(features)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        shortcut = features if self.downsample is None else self.downsample(features)
        summed: Tensor = self.relu(out + shortcut)
        return summed


class ResNet(Backbone):
    """A residual network that strides in the first unit of a block, as torchvision's.

    Args:
        unit: Kind of residual unit.
        depths: Units in block1 to block4.
        multi_grid: Unit rates inside block4, one number a unit; (1, 1, 1) where None.
    Shapes:
        in (B, 3, H, W); out block1 to block4, native strides 4, 8, 16, 32.
    Raises:
        ConfigError: `multi_grid` has not one number >= 1 for each unit of block4.
    Source: He et al. 2015 (arXiv 1512.03385); weight names as in torchvision.
    """

    mean = IMAGENET_MEAN
    std = IMAGENET_STD

    def __init__(
        self,
        unit: type[BasicUnit | BottleneckUnit],
        depths: tuple[int, int, int, int],
        *,
        multi_grid: tuple[int, ...] | None = None,
    ) -> None:
        super().__init__()
        if multi_grid is not None and (len(multi_grid) != depths[3] or min(multi_grid) < 1):
            raise ConfigError(
                f"model.multi_grid: {list(multi_grid)} does not fit",
                f"Block4 has {depths[3]} units: give {depths[3]} rates >= 1.",
            )
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels, widths = 64, (64, 128, 256, 512)
        levels = []
        for number, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            rates = (multi_grid if number == 3 and multi_grid else None) or (1,) * depth
            units = []
            for position, rate in enumerate(rates):
                stride = 2 if number > 0 and position == 0 else 1
                units.append(unit(channels, width, stride=stride, rate=rate))
                channels = width * unit.expansion
            self.add_module(f"layer{number + 1}", nn.Sequential(*units))
            levels.append(FeatureLevel(channels=channels, native_stride=4 * 2**number))
        self.feature_shapes = FeatureShapes(tuple(levels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, picture: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> the four blocks' outputs, shallow to deep."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(picture))))
        levels = []
        for number in (1, 2, 3, 4):
            features = self.get_submodule(f"layer{number}")(features)
            levels.append(features)
        return levels


def build_resnet18(*, multi_grid: tuple[int, ...] | None = None) -> ResNet:
    """ResNet-18: 11.2 million weights."""
    return ResNet(BasicUnit, (2, 2, 2, 2), multi_grid=multi_grid)


def build_resnet34(*, multi_grid: tuple[int, ...] | None = None) -> ResNet:
    """ResNet-34: 21.3 million weights."""
    return ResNet(BasicUnit, (3, 4, 6, 3), multi_grid=multi_grid)


def build_resnet50(*, multi_grid: tuple[int, ...] | None = None) -> ResNet:
    """ResNet-50: 23.5 million weights."""
    return ResNet(BottleneckUnit, (3, 4, 6, 3), multi_grid=multi_grid)


def build_resnet101(*, multi_grid: tuple[int, ...] | None = None) -> ResNet:
    """ResNet-101: 42.5 million weights."""
    return ResNet(BottleneckUnit, (3, 4, 23, 3), multi_grid=multi_grid)


def build_resnet152(*, multi_grid: tuple[int, ...] | None = None) -> ResNet:
    """ResNet-152: 58.1 million weights."""
    return ResNet(BottleneckUnit, (3, 8, 36, 3), multi_grid=multi_grid)
