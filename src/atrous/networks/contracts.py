"""What passes between the parts of a network: feature shapes, geometry, cells; and what a backbone and a head are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn


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


@dataclass(frozen=True)
class Geometry:
    """Where cells lie in the picture.

    Args:
        height, width: The picture, in pixels.
        padded_height, padded_width: What the backbone got, in pixels; padding is right and bottom.
        stride: Pixels from one cell to the next.
        aligned: True: cell i is centred on pixel i * stride. False: cells tile the picture, half-pixel centres.
    """

    height: int
    width: int
    padded_height: int
    padded_width: int
    stride: int
    aligned: bool

    @property
    def map_height(self) -> int:
        """Rows of the model's map: those that pixels of the picture are interpolated from."""
        return count_cells(self.height, self.stride, aligned=self.aligned)

    @property
    def map_width(self) -> int:
        """Columns of the model's map."""
        return count_cells(self.width, self.stride, aligned=self.aligned)


def count_cells(size: int, stride: int, *, aligned: bool) -> int:
    """Return the cells of the model's map along a side of n pixels: aligned ceil((n - 1) / s) + 1, else ceil(n / s)."""
    return -(-(size - 1) // stride) + 1 if aligned else -(-size // stride)


@dataclass(frozen=True)
class Cells:
    """What a network says before anything is enlarged.

    Args:
        logits: (B, K, h, w), one vector of class logits a cell; h, w are the geometry's map.
        auxiliary: (B, K, h, w) logits of the auxiliary head in training, else None.
        geometry: Where the cells lie in the picture.
    """

    logits: Tensor
    auxiliary: Tensor | None
    geometry: Geometry


class Backbone(nn.Module):
    """A picture in, feature maps out, shallow to deep; at native strides when built. Abstract.

    `feature_shapes` says their channels and native strides; `mean` and `std` are the input statistics, per RGB channel
    in [0, 1], that its weights were trained with.
    """

    feature_shapes: FeatureShapes
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @abstractmethod
    def forward(self, picture: Tensor) -> Sequence[Tensor]:
        """(B, 3, H, W) normalised floats -> one (B, C, h, w) a level."""


class Head(nn.Module):
    """Features in, class logits out. Abstract."""

    @abstractmethod
    def forward(self, features: Sequence[Tensor], inside: Tensor | None = None) -> Tensor:
        """Levels of (B, C, h, w) -> logits (B, K, h, w).

        `inside` is a (h, w) float map, 1 for cells whose centre lies in the picture, or None where all do.
        """

    def compute_rates(self, output_stride: int) -> tuple[int, ...]:
        """Return the rates in cells of a map at `output_stride`; none where the head has no atrous convolution.

        Raises:
            ConfigError: A rate would not be whole.
        """
        return ()

    def set_output_stride(self, output_stride: int) -> None:
        """Scale rates to a new output stride; nothing to do where the head has none.

        Raises:
            ConfigError: A rate would not be whole; nothing has changed.
        """
