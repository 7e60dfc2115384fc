"""Cross-entropy of upsampled logits against labels at their full size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from atrous.core.labels import IGNORE_INDEX
from atrous.networks.contracts import Geometry
from atrous.networks.layers.resize import enlarge_logits


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


def sum_cross_entropy(
    logits: Tensor, geometry: Geometry, labels: Tensor, class_weights: Tensor | None = None
) -> Tensor:
    """Return the sum of the cross-entropy over valid pixels; 0 where there is none.

    It is a sum so that the caller can divide by the valid pixels of the whole optimiser step, whatever number of
    forward passes and processes that has. Dividing each pass by its own count would weigh pixels unequally, and a pass
    without a valid pixel would be 0 / 0.

    Args:
        logits: The cells' logits.
        geometry: Where the cells lie in the picture.
        labels: Class indices, IGNORE_INDEX where ignored.
        class_weights: (K,) weight of each class, or None for 1.
    Shapes:
        logits (B, K, h, w), labels (B, H, W) int64; out () float32.
    Source: Chen et al. 2017 (arXiv 1706.05587), section 4: logits are upsampled, labels are not shrunk.
    """
    with torch.autocast(logits.device.type, enabled=False):
        upsampled = enlarge_logits(logits, geometry)  # (B, K, H, W)
        return F.cross_entropy(upsampled, labels, class_weights, ignore_index=IGNORE_INDEX, reduction="sum")
