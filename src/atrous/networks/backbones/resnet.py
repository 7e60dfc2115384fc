"""ResNet-18 to -152, with torchvision's names for every weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from atrous.core.errors import ConfigError
from atrous.networks.contracts import AtrousPlan, Backbone, FeatureLevel, FeatureShapes, require_extra_blocks
from atrous.networks.layers.conv import Conv
from atrous.networks.layers.recomputation import norm_act
from atrous.networks.weight_files import PublishedFile


def _conv(in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, rate: int = 1) -> Conv:
    padding = rate * (kernel // 2)
    return Conv(in_channels, out_channels, kernel, stride=stride, padding=padding, dilation=rate, bias=False)


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    if in_channels == out_channels:
        return nn.MaxPool2d(1, stride=stride) if stride > 1 else None  # an extra block: no weights, every other cell
    return nn.Sequential(_conv(in_channels, out_channels, 1, stride=stride), nn.BatchNorm2d(out_channels))


class BasicUnit(nn.Module):
    """Two 3x3 convolutions and a shortcut.

    Args:
        in_channels: Channels of the features.
        width: Output channels.
        stride: Stride in cells, 1 or 2.
        rate: Distance between taps in cells, >= 1.
    Shapes:
        in (B, C, h, w); out (B, width, h / stride, w / stride).
    """

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
        """Return the convolutions' output plus the shortcut."""
        out = norm_act(self.bn1, self.relu, self.conv1(features))
        out = self.bn2(self.conv2(out))
        shortcut = features if self.downsample is None else self.downsample(features)
        summed: Tensor = self.relu(out + shortcut)
        return summed


class BottleneckUnit(nn.Module):
    """1x1, 3x3 (strided) and 1x1 convolutions and a shortcut.

    Args:
        in_channels: Channels of the features.
        width: Channels of the 3x3 convolution; a quarter of the output channels.
        stride: Stride in cells, 1 or 2.
        rate: Distance between taps in cells, >= 1.
    Shapes:
        in (B, C, h, w); out (B, 4 * width, h / stride, w / stride).
    """

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
        """Return the convolutions' output plus the shortcut."""
        out = norm_act(self.bn1, self.relu, self.conv1(features))
        out = norm_act(self.bn2, self.relu, self.conv2(out))
        out = self.bn3(self.conv3(out))
        shortcut = features if self.downsample is None else self.downsample(features)
        summed: Tensor = self.relu(out + shortcut)
        return summed


class ResNet(Backbone):
    """A residual network that strides in the 3x3 convolution of a block's first unit, as torchvision's does.

    Args:
        unit: Kind of residual unit.
        depths: Units in block1 to block4.
        weights_file: Name of the file of torchvision's ImageNet weights (IMAGENET1K_V1).
        multi_grid: Unit rates inside block4 and the extra blocks, one number a unit. Default: 1 for each unit.
        extra_blocks: How many copies of block4 follow it, each at twice the native stride, 0 to 3.
    Shapes:
        in (B, 3, H, W); out block1 to block4 and the extra ones, native strides 4, 8, 16, 32, 64, 128, 256.
    Raises:
        ConfigError: `multi_grid` has not one number >= 1 for each unit of block4, or `extra_blocks` is out of range.
    Source: He et al. 2015 (arXiv 1512.03385); weight names as in torchvision. Extra blocks: Chen et al. 2017
        (arXiv 1706.05587), section 3.2.
    """

    strides = AtrousPlan("exact")

    def __init__(
        self,
        unit: type[BasicUnit | BottleneckUnit],
        depths: tuple[int, int, int, int],
        weights_file: str,
        *,
        multi_grid: tuple[int, ...] | None = None,
        extra_blocks: int = 0,
    ) -> None:
        super().__init__()
        require_extra_blocks(extra_blocks)
        if multi_grid is not None and (len(multi_grid) != depths[3] or min(multi_grid) < 1):
            raise ConfigError(
                f"model.multi_grid: {list(multi_grid)} does not fit",
                f"Block4 has {depths[3]} units: give {depths[3]} rates >= 1.",
            )
        self.imagenet = PublishedFile(f"https://download.pytorch.org/models/{weights_file}", "BSD-3-Clause")
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.num_extra_blocks = extra_blocks
        channels, widths = 64, (64, 128, 256, *[512] * (1 + extra_blocks))
        levels = []
        for number, (width, depth) in enumerate(zip(widths, (*depths, *depths[3:] * extra_blocks), strict=True)):
            rates = (multi_grid if number >= 3 and multi_grid else None) or (1,) * depth
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
        self.start_extra_blocks()

    def start_extra_blocks(self) -> None:
        """Copy the current weights of block4 into the extra blocks.

        Block4's own first unit has another number of input channels, so a copy's first unit starts from the second.
        """
        units = list(cast(nn.Sequential, self.layer4))
        for block in self.list_extra_blocks():
            for position, unit in enumerate(cast(nn.Sequential, block)):
                unit.load_state_dict(units[max(position, 1)].state_dict())

    def list_extra_blocks(self) -> Sequence[nn.Module]:
        """Return block5 and those after it."""
        return [self.get_submodule(f"layer{5 + number}") for number in range(self.num_extra_blocks)]

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the blocks' outputs, shallow to deep."""
        features = self.maxpool(norm_act(self.bn1, self.relu, self.conv1(image)))
        levels = []
        for number in range(1, 5 + self.num_extra_blocks):
            features = self.get_submodule(f"layer{number}")(features)
            levels.append(features)
        return levels


def build_resnet18(*, multi_grid: tuple[int, ...] | None = None, extra_blocks: int = 0) -> ResNet:
    """Build ResNet-18: 11.2 million weights.

    Args:
        multi_grid: See `ResNet`.
        extra_blocks: See `ResNet`.
    """
    return ResNet(BasicUnit, (2, 2, 2, 2), "resnet18-f37072fd.pth", multi_grid=multi_grid, extra_blocks=extra_blocks)


def build_resnet34(*, multi_grid: tuple[int, ...] | None = None, extra_blocks: int = 0) -> ResNet:
    """Build ResNet-34: 21.3 million weights.

    Args:
        multi_grid: See `ResNet`.
        extra_blocks: See `ResNet`.
    """
    return ResNet(BasicUnit, (3, 4, 6, 3), "resnet34-b627a593.pth", multi_grid=multi_grid, extra_blocks=extra_blocks)


def build_resnet50(*, multi_grid: tuple[int, ...] | None = None, extra_blocks: int = 0) -> ResNet:
    """Build ResNet-50: 23.5 million weights.

    Args:
        multi_grid: See `ResNet`.
        extra_blocks: See `ResNet`.
    """
    return ResNet(
        BottleneckUnit, (3, 4, 6, 3), "resnet50-0676ba61.pth", multi_grid=multi_grid, extra_blocks=extra_blocks
    )


def build_resnet101(*, multi_grid: tuple[int, ...] | None = None, extra_blocks: int = 0) -> ResNet:
    """Build ResNet-101: 42.5 million weights.

    Args:
        multi_grid: See `ResNet`.
        extra_blocks: See `ResNet`.
    """
    return ResNet(
        BottleneckUnit, (3, 4, 23, 3), "resnet101-63fe2227.pth", multi_grid=multi_grid, extra_blocks=extra_blocks
    )


def build_resnet152(*, multi_grid: tuple[int, ...] | None = None, extra_blocks: int = 0) -> ResNet:
    """Build ResNet-152: 58.1 million weights.

    Args:
        multi_grid: See `ResNet`.
        extra_blocks: See `ResNet`.
    """
    return ResNet(
        BottleneckUnit, (3, 8, 36, 3), "resnet152-394f9c45.pth", multi_grid=multi_grid, extra_blocks=extra_blocks
    )
