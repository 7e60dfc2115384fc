"""What a loss is, and what its sum is divided by."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from atrous.core.labels import IGNORE_INDEX


class Loss(Protocol):
    """Logits and labels in, a sum out: divided by `count_weight` of the same labels it is the loss of a pixel.

    It is a sum so that the caller can divide by the valid pixels of the whole optimiser step, whatever number of
    forward passes and processes that has. Dividing each pass by its own count would weigh pixels unequally, and a pass
    without a valid pixel would be 0 / 0.
    """

    def __call__(self, logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
        """Return the sum over valid pixels; 0 where there is none.

        Args:
            logits: Class logits, computed in float32 where they are narrower.
            labels: Class indices, IGNORE_INDEX where ignored.
            class_weights: (K,) weight of each class, or None for 1.
        Shapes:
            logits (B, K, H, W), labels (B, H, W) int64; out ().
        """
        ...


def count_weight(labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Return what a loss sum is divided by: the valid pixels, each counted with its class's weight.

    Args:
        labels: Class indices, IGNORE_INDEX where ignored.
        class_weights: (K,) weight of each class, or None for 1.
    Shapes:
        in (B, H, W) int64; out () float32.
    """
    valid = labels != IGNORE_INDEX
    if class_weights is None:
        return valid.sum().float()
    return class_weights[labels[valid]].sum()
