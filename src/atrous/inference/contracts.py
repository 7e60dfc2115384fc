"""The types that parts of inference exchange: images, backends, bands of scores, bands of labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from atrous.networks.contracts import Cells

SMALLEST_PROBABILITY = 1e-30
"""Probabilities below it, 0 among them, count as it where their logarithm is needed."""


class ImageSource(Protocol):
    """An image, in memory or not, that is read a part at a time; `height` and `width` are in pixels."""

    height: int
    width: int

    def read(self, rows: slice, columns: slice) -> Tensor:
        """Return a part of the image; parts are read from top to bottom.

        Args:
            rows: Rows of the image.
            columns: Columns of the image.
        Shapes:
            out (C, h, w), see `Backend`.
        """
        ...


class Backend(Protocol):
    """Runs a network: images in, cells out.

    `num_classes` is K. `device` is where images should be. `aligned` says how scaled copies of an image are made. With
    `labels_only`, there are no logits, and `label` replaces the call. With `is_full_size`, cells are pixels, which take
    more memory. `precisions` are those that the backend supports.
    """

    num_classes: int
    device: torch.device
    aligned: bool
    labels_only: bool
    is_full_size: bool
    precisions: tuple[str, ...]

    def __call__(self, images: Tensor) -> Cells:
        """Run the network on a batch of images.

        Shapes:
            in (B, C, H, W), of 8-bit images uint8 or floats in [0, 1], of others floats with the values that files
            store; out cells with logits (B, K, h, w).
        Raises:
            MemoryShort: The images do not fit in memory.
        """
        ...

    def label(self, images: Tensor) -> Tensor:
        """Return the likeliest class of each pixel; errors as for a call.

        Shapes:
            in (B, C, H, W) as for a call; out (B, H, W) class indices.
        """
        ...

    def measure_bytes_per_pixel(self) -> float:
        """Return how many bytes of memory a forward pass needs for each pixel of the image."""
        ...


class StandIn:
    """What passes calls on to backends of one kind, and has what they have in common.

    Args:
        example: One of them.
    """

    def __init__(self, example: Backend) -> None:
        self.num_classes = example.num_classes
        self.device = example.device
        self.aligned = example.aligned
        self.labels_only = example.labels_only
        self.is_full_size = example.is_full_size
        self.precisions = example.precisions


class LiveBackend(Backend, Protocol):
    """A backend that runs its source in its state at each call."""

    def hold(self) -> Backend:
        """Return a backend that runs the source in its present state, for all calls that one image needs."""
        ...


@dataclass(frozen=True, eq=False)
class Band:
    """Class scores of some rows of the image.

    Args:
        start_row: The first row of the band.
        given: The scores, or a function that computes those of some rows of the band and of some columns when they are
            needed.
        are_logits: Whether the scores are logits; otherwise probabilities, averaged over several views.
        indices: The likeliest classes, if they were found without the scores, else None.
    Shapes:
        given (K, R, W) float32; indices (R, W) uint16.
    """

    start_row: int
    given: Tensor | Callable[[slice, slice], Tensor]
    are_logits: bool
    indices: np.ndarray | None = None

    @cached_property
    def scores(self) -> Tensor:
        """Scores (K, R, W) float32; the largest is the likeliest class."""
        return self._read(slice(None), slice(None))

    def compute_probs(self, temperature: float = 1.0) -> Tensor:
        """Return the probabilities, adding up to 1 over the classes.

        Args:
            temperature: What their logarithms are divided by.
        Shapes:
            out (K, R, W) float32
        """
        if temperature == 1.0:
            return self.scores.softmax(dim=0) if self.are_logits else self.scores
        return (self._compute_logits() / temperature).softmax(dim=0)

    def compute_confidence(self, temperature: float = 1.0) -> Tensor:
        """Return the probability of the likeliest class.

        Args:
            temperature: What the logarithms of the probabilities are divided by.
        Shapes:
            out (R, W) float32
        """
        if temperature == 1.0 and not self.are_logits:
            return self.scores.amax(dim=0)
        logits = self._compute_logits()
        return (logits - logits.amax(dim=0)).div_(temperature).exp_().sum(dim=0).reciprocal_()

    def sample_log_probs(self, step: int) -> tuple[Tensor, slice]:
        """Return logarithms of the probabilities on a grid of the image's pixels, and which rows of the band these are.

        Args:
            step: Distance of its rows and of its columns.
        Shapes:
            out (K, r, w) float32
        """
        rows = slice(-self.start_row % step, None, step)
        values = self._read(rows, slice(None, None, step))
        return values.log_softmax(dim=0) if self.are_logits else values.clamp(min=SMALLEST_PROBABILITY).log(), rows

    def _read(self, rows: slice, columns: slice) -> Tensor:
        given = self.__dict__.get("scores", self.given)  # the scores, once they have been computed
        return given[:, rows, columns] if isinstance(given, Tensor) else given(rows, columns)

    def _compute_logits(self) -> Tensor:
        return self.scores if self.are_logits else self.scores.clamp(min=SMALLEST_PROBABILITY).log()


@dataclass(frozen=True, eq=False)
class LabelBand:
    """Labels of some rows of the image.

    Args:
        indices: Class indices.
        band: The scores that they come from; None if the backend returns labels alone.
        indices_before_crf: Class indices without DenseCRF, if the protocol has one, else None.
    Shapes:
        indices and indices_before_crf (R, W) uint16.
    """

    indices: np.ndarray
    band: Band | None
    indices_before_crf: np.ndarray | None = None

    @property
    def start_row(self) -> int:
        """The first row of the band; labels without scores are those of the whole image."""
        return 0 if self.band is None else self.band.start_row
