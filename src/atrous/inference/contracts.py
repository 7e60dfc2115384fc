"""What passes between the parts of inference: the backend that runs a network, bands of probabilities and of labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from atrous.networks.contracts import Cells


class Backend(Protocol):
    """Something that runs a network: pictures in, cells out.

    `num_classes` is K; `device` is where the pictures are wanted; `aligned` tells how scaled copies are to be made.
    """

    num_classes: int
    device: torch.device
    aligned: bool

    def __call__(self, pictures: Tensor) -> Cells:
        """(B, 3, H, W) uint8, or floats in [0, 1] -> cells with logits (B, K, h, w).

        Raises:
            MachineError: The memory does not suffice.
        """
        ...

    def measure_bytes_per_pixel(self) -> float:
        """Return how much memory a forward pass needs for each pixel of the picture."""
        ...


@dataclass(frozen=True)
class Band:
    """Probabilities of some rows of the picture.

    Args:
        start_row: The band's first row.
        probs: (K, R, W) float32, adding up to 1 over the classes.
    """

    start_row: int
    probs: Tensor


@dataclass(frozen=True)
class LabelBand:
    """Labels of some rows of the picture.

    Args:
        start_row: The band's first row.
        indices: (R, W) uint16 class indices.
        confidence: (R, W) float32, the probability of the class given.
        probs: (K, R, W) float32.
        indices_before_crf: (R, W) uint16, the class indices without DenseCRF, where the protocol has one.
    """

    start_row: int
    indices: np.ndarray
    confidence: np.ndarray
    probs: Tensor
    indices_before_crf: np.ndarray | None = None
