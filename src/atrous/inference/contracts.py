"""What passes between the parts of inference: images, backends that run networks, bands of scores and labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from atrous.networks.contracts import Cells


class Backend(Protocol):
    """Something that runs a network: images in, cells out.

    `num_classes` is K; `device` is where the images are wanted; `aligned` tells how scaled copies are to be made;
    where `labels_only`, there are no logits, and `label` takes the place of the call; where `is_full_size`, cells are
    pixels, and so take much memory; `precisions` are those that it can compute in.
    """

    num_classes: int
    device: torch.device
    aligned: bool
    labels_only: bool
    is_full_size: bool
    precisions: tuple[str, ...]

    def __call__(self, images: Tensor) -> Cells:
        """(B, 3, H, W) uint8, or floats in [0, 1] -> cells with logits (B, K, h, w).

        Raises:
            MachineError: The memory does not suffice.
        """
        ...

    def label(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> class indices (B, H, W); errors as those of a call."""
        ...

    def measure_bytes_per_pixel(self) -> float:
        """Return how much memory a forward pass needs for each pixel of the image."""
        ...


@dataclass(frozen=True, eq=False)
class Band:
    """What was found of some rows of the image.

    Args:
        start_row: The band's first row.
        given: Its scores, or what computes them when they are asked for.
        are_logits: Whether the scores are logits, or probabilities, where several looks were averaged.
        indices: (R, W) uint16, the likeliest classes where they were found without the scores, else None.
    """

    start_row: int
    given: Tensor | Callable[[], Tensor]
    are_logits: bool
    indices: np.ndarray | None = None

    @cached_property
    def scores(self) -> Tensor:
        """(K, R, W) float32, the larger the likelier."""
        return self.given if isinstance(self.given, Tensor) else self.given()

    def compute_probs(self) -> Tensor:
        """Return the probabilities, (K, R, W) float32, adding up to 1 over the classes."""
        return self.scores.softmax(dim=0) if self.are_logits else self.scores

    def compute_confidence(self) -> Tensor:
        """Return the probability of the likeliest class, (R, W) float32."""
        top = self.scores.amax(dim=0)
        return (self.scores - top).exp_().sum(dim=0).reciprocal_() if self.are_logits else top


@dataclass(frozen=True, eq=False)
class LabelBand:
    """Labels of some rows of the image.

    Args:
        indices: (R, W) uint16 class indices.
        band: What they were found from; None where the backend gives labels alone.
        indices_before_crf: (R, W) uint16, the class indices without DenseCRF, where the protocol has one.
    """

    indices: np.ndarray
    band: Band | None
    indices_before_crf: np.ndarray | None = None

    @property
    def start_row(self) -> int:
        """The band's first row; labels without a band are of the whole image."""
        return 0 if self.band is None else self.band.start_row
