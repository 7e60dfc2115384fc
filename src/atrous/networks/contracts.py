"""What passes between the parts of a network: feature shapes, geometry, cells; and what a backbone and a head are."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

from torch import Tensor, nn

from atrous.core.errors import ConfigError
from atrous.core.inputs import InputSpec
from atrous.networks.rates import scale_rates
from atrous.networks.weight_files import PackagedFile, PublishedFile


@dataclass(frozen=True)
class FeatureLevel:
    """One level of a backbone.

    Args:
        channels: Number of channels.
        native_stride: Input resolution / this level's resolution without atrous convolution.
    """

    channels: int
    native_stride: int


@dataclass(frozen=True)
class FeatureShapes:
    """All levels of a backbone, shallow to deep.

    Args:
        levels: The levels in the order in which the backbone returns them.
        centred: Whether cell i of a level at stride s is centred on pixel i * s, as symmetric odd kernels have it.
    """

    levels: tuple[FeatureLevel, ...]
    centred: bool = True

    @property
    def deepest(self) -> FeatureLevel:
        """The last level, which heads read."""
        return self.levels[-1]

    def find_level(self, native_stride: int) -> int:
        """Return the index of the level with this native stride.

        Raises:
            ConfigError: There is none.
        """
        strides = [level.native_stride for level in self.levels]
        if native_stride not in strides:
            raise ConfigError(
                f"the backbone has no level at stride {native_stride}, only at {', '.join(map(str, strides))}",
                "Choose another backbone, see `atrous models`.",
            )
        return strides.index(native_stride)


@dataclass(frozen=True)
class Geometry:
    """The positions of cells in the image.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        padded_height: Height of the backbone's input in pixels; padding is at the bottom.
        padded_width: Width of the backbone's input in pixels; padding is on the right.
        stride: Pixels from one cell to the next.
        aligned: True: cell i is centred on pixel i * stride. False: cells tile the image, half-pixel centres.
    """

    height: int
    width: int
    padded_height: int
    padded_width: int
    stride: int
    aligned: bool

    @property
    def map_height(self) -> int:
        """Rows of the model's map, from which the pixels of the image are interpolated."""
        return count_cells(self.height, self.stride, aligned=self.aligned)

    @property
    def map_width(self) -> int:
        """Columns of the model's map."""
        return count_cells(self.width, self.stride, aligned=self.aligned)


def count_cells(size: int, stride: int, *, aligned: bool) -> int:
    """Return the number of cells of the model's map along one side of the image.

    No negative number is divided: an exported graph rounds such a quotient towards zero, whereas Python rounds down.

    Args:
        size: Length n of the side in pixels, at least 1.
        stride: Pixels s from one cell to the next.
        aligned: Whether cell i is centred on pixel i * s, ceil((n - 1) / s) + 1 cells; else ceil(n / s) cells tile it.
    """
    return (size + stride - 2) // stride + 1 if aligned else (size + stride - 1) // stride


@dataclass(frozen=True)
class Cells:
    """The output of a network before it is enlarged to the image.

    Args:
        logits: (B, K, h, w), one vector of class logits per cell; h, w are the geometry's map.
        auxiliary: Logits of the auxiliary head at the same cells in training, else None.
        geometry: The positions of the cells in the image.
    """

    logits: Tensor
    auxiliary: Tensor | None
    geometry: Geometry


MOST_EXTRA_BLOCKS = 3
"""Blocks 5, 6 and 7, at native strides 64, 128 and 256."""


def require_extra_blocks(extra_blocks: int) -> None:
    """Raise if the number of extra blocks is not 0 to 3.

    Raises:
        ConfigError: The number is out of range.
    """
    if not 0 <= extra_blocks <= MOST_EXTRA_BLOCKS:
        raise ConfigError(f"model.extra_blocks: got {extra_blocks}", f"Allowed: 0 to {MOST_EXTRA_BLOCKS}.")


@dataclass(frozen=True)
class SizeRule:
    """The sides that a backbone works at: images are padded to them on the right and at the bottom.

    Args:
        multiple: Padded sides are a multiple of this plus `offset`, in pixels; 1 leaves images as they are.
        offset: 1 where the corner cells are centred on the corner pixels, else 0.
        aligned: Whether cell i is centred on pixel i * stride, as in `Geometry`.
    Raises:
        ValueError: A multiple below 1, or an offset that does not belong to `aligned`.
    """

    multiple: int = 32
    offset: int = 1
    aligned: bool = True

    def __post_init__(self) -> None:
        if self.multiple < 1 or self.offset != int(self.aligned):
            raise ValueError(f"{self}: multiple must be 1 or more, offset 1 for aligned cells and 0 for others")

    def pad(self, size: int, output_stride: int) -> int:
        """Return the padded length of a side of `size` pixels.

        Aligned lengths suit every stride up to `multiple`, so that the cells of all those strides coincide; above it
        (extra blocks at their native strides), they suit `output_stride`.

        Args:
            size: Length of the side in pixels, at least 1.
            output_stride: Input resolution / feature resolution.
        """
        if self.multiple == 1 and not self.aligned:
            return size
        step = math.lcm(self.multiple, output_stride)
        return (size - self.offset + step - 1) // step * step + self.offset

    def describe(self) -> str:
        """Return the rule as text, such as "padded to 32k + 1, corners aligned"."""
        if self.aligned:
            return f"padded to {self.multiple}k + 1, corners aligned"
        return f"{'as it is' if self.multiple == 1 else f'padded to {self.multiple}k'}, half-pixel centres"


UNPADDED = SizeRule(1, 0, aligned=False)
"""Images as they are, cells that tile them: torchvision's convention."""


@dataclass(frozen=True)
class AtrousPlan:
    """The output stride can be set at any time: `StridePlanner` changes strides and rates of the modules.

    Args:
        identity: What holds for features at a smaller stride, every second or fourth cell of them. "exact": they equal
            those at a larger stride. "pooled": all but that, since a global average inside sees other cells.
            "not verified": it has not been measured.
    """

    identity: Literal["exact", "pooled", "not verified"] = "not verified"


@dataclass(frozen=True)
class FixedStride:
    """The network has one output stride, which nothing can change: a transformer's patch size, for example.

    Args:
        stride: Input resolution / resolution of the deepest level.
    """

    stride: int


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that an optimizer treats alike.

    Args:
        parameters: The parameters; those that need no gradient are skipped.
        decays: Whether weight decay applies to them.
        lr_factor: Their learning rate / that of the part of the network they belong to.
    """

    parameters: tuple[nn.Parameter, ...]
    decays: bool
    lr_factor: float = 1.0


def group_by_decay(module: nn.Module) -> list[ParameterGroup]:
    """Group all parameters of a module: those with two or more dimensions decay, norms and biases do not."""
    parameters = list(module.parameters())
    return [
        ParameterGroup(tuple(p for p in parameters if (p.dim() > 1) == decays), decays=decays)
        for decays in (True, False)
    ]


class Backbone(nn.Module):
    """An image in, feature maps out, shallow to deep; built at its native strides. Abstract.

    It says everything that the rest of the package has to know about it, so that a new one is one file. The fields
    are class attributes, or set by the constructor:

    - `feature_shapes`: channels and native strides of the levels.
    - `input_spec`: the images that its weights were trained on.
    - `size_rule`: to which sizes images are padded.
    - `strides`: whether the output stride can be changed.
    - `imagenet`: where its ImageNet weights are published, and their licence.
    - `auxiliary_stride`: native stride of the level that auxiliary heads read.

    Shapes:
        in (B, C, H, W) normalised floats; out one (B, C', h, w) per level.
    """

    feature_shapes: FeatureShapes
    input_spec: InputSpec = InputSpec()
    size_rule: SizeRule = SizeRule()
    strides: AtrousPlan | FixedStride = AtrousPlan()
    imagenet: PackagedFile | PublishedFile | None = None
    auxiliary_stride: int = 16

    @abstractmethod
    def forward(self, image: Tensor) -> Sequence[Tensor]:
        """Return the levels, shallow to deep."""

    def group_parameters(self) -> list[ParameterGroup]:
        """Group the parameters by weight decay and learning rate. Default: `group_by_decay`."""
        return group_by_decay(self)

    def list_extra_blocks(self) -> Sequence[nn.Module]:
        """Return the blocks that a cascade appended, which no published file holds. Default: none."""
        return ()

    @final
    def list_extra_names(self) -> set[str]:
        """Return the names of the extra blocks' tensors."""
        blocks = {id(block) for block in self.list_extra_blocks()}
        prefixes = tuple(f"{name}." for name, module in self.named_modules() if id(module) in blocks)
        return {name for name in self.state_dict() if name.startswith(prefixes)}

    def start_extra_blocks(self) -> None:
        """Copy the current weights of the last published block into the extra blocks. Default: nothing to do."""

    def adopt_names(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of a published file under the names they have here. Default: the same names.

        Tensors that this network does not have keep their names.
        """
        return dict(state)


@dataclass(frozen=True)
class Extent:
    """What a head must know about its input.

    Args:
        inside: Number of rows and columns of the deepest level whose centres are inside the image; None for all. The
            other cells, on the right and at the bottom, are padding.
        aligned: Whether the corner cells of all levels coincide, as in `Geometry`.
    """

    inside: tuple[int, int] | None = None
    aligned: bool = True

    def crop(self, features: Tensor) -> Tensor:
        """Return the cells of the deepest level, (B, C, h, w), that are inside the image."""
        return features if self.inside is None else features[:, :, : self.inside[0], : self.inside[1]]


WHOLE = Extent()


def require_head_options(*, dropout: float, **channels: int) -> None:
    """Raise if a number of filters is below 1 or the dropout is outside [0, 1).

    Args:
        dropout: Share of values dropped in training.
        channels: Numbers of filters, by the option's name.
    Raises:
        ConfigError: One of them is out of range.
    """
    if min(channels.values()) < 1 or not 0 <= dropout < 1:
        given = ", ".join(f"{name} {value}" for name, value in {**channels, "dropout": dropout}.items())
        raise ConfigError(f"model.head: {given} is out of range", f"{' and '.join(channels)} >= 1, dropout in [0, 1).")


class Head(nn.Module):
    """Features in, class logits out. Abstract.

    `scales` are the relative sizes at which the network sees the image in one pass; heads with several implement
    `fuse`. `rates` are in stride-16 cells; heads with any implement `set_rates`.

    Shapes:
        in one (B, C, h, w) per level; out (B, K, h, w) logits at the stride that `find_stride` returns.
    """

    rates: tuple[int, ...] = ()
    scales: tuple[float, ...] = (1.0,)

    @abstractmethod
    def forward(self, features: Sequence[Tensor], extent: Extent = WHOLE) -> Tensor:
        """Return the logits.

        Args:
            features: The levels of the backbone, shallow to deep.
            extent: Which of their cells are inside the image.
        """

    def fuse(self, logits: Sequence[Tensor], features: Sequence[Tensor]) -> Tensor:
        """Combine the logits of all scales.

        Args:
            logits: One (B, K, h, w) per scale, resampled to the cells of the image at scale 1.
            features: The deepest level of each scale, (B, C, h, w), resampled likewise.
        """
        return logits[0]

    def find_stride(self, output_stride: int) -> int:
        """Return the stride of the logits for a backbone at `output_stride`; decoders are denser."""
        return output_stride

    def set_rates(self, rates: tuple[int, ...]) -> None:
        """Spread the taps; `rates` are `self.rates` in current cells."""

    @final
    def compute_rates(self, output_stride: int) -> tuple[int, ...]:
        """Return the rates in cells of a map at `output_stride`; empty for a head without atrous convolution.

        Raises:
            ConfigError: A rate would not be whole.
        """
        return scale_rates(self.rates, output_stride)

    @final
    def set_output_stride(self, output_stride: int) -> None:
        """Scale the rates to a new output stride.

        Raises:
            ConfigError: A rate would not be whole; nothing has changed.
        """
        self.set_rates(self.compute_rates(output_stride))
