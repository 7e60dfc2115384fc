"""The contract of a loss, and the weight that its sum is divided by."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from atrous.core.labels import IGNORE_INDEX
from atrous.networks.contracts import Geometry


class Loss(Protocol):
    """Maps logits and labels to a sum; dividing it by `count_weight` of the same labels gives the mean loss per pixel.

    Returning a sum lets the caller divide by the valid pixels of the whole optimiser step, over any number of forward
    passes and processes. Dividing each pass by its own count would weight pixels unequally, and a pass without valid
    pixels would be 0 / 0.
    """

    def __call__(
        self, logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, geometry: Geometry | None = None
    ) -> Tensor:
        """Return the sum over valid pixels; 0 without valid pixels.

        Args:
            logits: Class logits; narrower types are converted to float32.
            labels: Class indices; IGNORE_INDEX for ignored pixels.
            class_weights: (K,) weight of each class. None: 1.
            geometry: Positions of the cells in the labelled image. None: logits and labels have the same resolution.
        Shapes:
            logits (B, K, h, w), labels (B, H, W) int64; out ().
        """
        ...


def weigh_pixels(labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Return the weight of each pixel: the weight of its class, or 0 if it is ignored.

    Args:
        labels: Class indices; IGNORE_INDEX for ignored pixels.
        class_weights: (K,) weight of each class. None: 1.
    Shapes:
        in (B, H, W) int64; out (B, H, W) float32, or the dtype of the class weights.
    """
    valid = labels != IGNORE_INDEX
    if class_weights is None:
        return valid.float()
    return class_weights[labels.where(valid, 0)] * valid


def count_weight(labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Return the divisor of a loss sum: the total weight of all pixels, see `weigh_pixels`.

    Args:
        labels: Class indices; IGNORE_INDEX for ignored pixels.
        class_weights: (K,) weight of each class. None: 1.
    Shapes:
        in (B, H, W) int64; out () float32.
    """
    return weigh_pixels(labels, class_weights).sum()
