"""Cross-entropy of every valid pixel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from atrous.core.labels import IGNORE_INDEX


@dataclass(frozen=True)
class CrossEntropy:
    """The sum of the cross-entropy over valid pixels."""

    def __call__(self, logits: Tensor, labels: Tensor, class_weights: Tensor | None = None) -> Tensor:
        """Return the sum; see `Loss`."""
        precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return F.cross_entropy(precise, labels, class_weights, ignore_index=IGNORE_INDEX, reduction="sum")
