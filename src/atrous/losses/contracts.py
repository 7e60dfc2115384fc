"""What a loss is, and what its sum is divided by."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from atrous.core.labels import IGNORE_INDEX
from atrous.networks.contracts import Geometry


class Loss(Protocol):
    """Logits and labels in, a sum out: divided by `count_weight` of the same labels it is the loss of a pixel.

    It is a sum so that the caller can divide by the valid pixels of the whole optimiser step, whatever number of
    forward passes and processes that has. Dividing each pass by its own count would weigh pixels unequally, and a pass
    without a valid pixel would be 0 / 0.
    """

    def __call__(
        self, logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, geometry: Geometry | None = None
    ) -> Tensor:
        """Return the sum over valid pixels; 0 where there is none.

        Args:
            logits: Class logits, computed in float32 where they are narrower.
            labels: Class indices, IGNORE_INDEX where ignored.
            class_weights: (K,) weight of each class, or None for 1.
            geometry: Where the logits' cells lie in the image whose pixels are labelled; None where logits and
                labels are of the same pixels.
        Shapes:
            logits (B, K, h, w), labels (B, H, W) int64; out ().
        """
        ...


def weigh_pixels(labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Return what each pixel counts: the weight of its class, and 0 where it is ignored.

    Args:
        labels: Class indices, IGNORE_INDEX where ignored.
        class_weights: (K,) weight of each class, or None for 1.
    Shapes:
        in (B, H, W) int64; out (B, H, W) float32, or of the class weights' kind.
    """
    valid = labels != IGNORE_INDEX
    if class_weights is None:
        return valid.float()
    return class_weights[labels.where(valid, 0)] * valid


def count_weight(labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Return what a loss sum is divided by: the weight of all pixels; see `weigh_pixels`.

    Shapes:
        in (B, H, W) int64; out () float32.
    """
    return weigh_pixels(labels, class_weights).sum()
