"""How far results of two backends may differ: by rounding alone."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST_LOGIT_DIFFERENCE = 1e-3
"""Largest difference of a logit between backends, as a share of the range of an image's logits."""
LARGEST_LABEL_SHARE = 1e-3
"""Largest share of different labels."""


def describe_difference(found: Tensor, expected: Tensor, exact: Tensor) -> str | None:
    """Return how logits differ from torch's by more than rounding; None if they do not.

    In fp32 the limits are those of exported files. In bf16 torch itself differs from fp32: another backend may differ
    twice as much.

    Args:
        found: What the backend gave.
        expected: What torch gave in the same precision.
        exact: What torch gave in fp32.
    Shapes:
        in (B, K, h, w) each.
    """
    spread = (exact.amax() - exact.amin()).clamp_min(torch.finfo(torch.float32).tiny)

    def compare(logits: Tensor) -> tuple[float, float]:
        wrong = logits.argmax(dim=1) != exact.argmax(dim=1)
        return float((logits - exact).abs().amax() / spread), float(wrong.float().mean())

    own_logits, own_labels = compare(expected)
    logits, labels = compare(found)
    # Written so that a difference of nan is refused too.
    if logits <= 2 * own_logits + LARGEST_LOGIT_DIFFERENCE and labels <= 2 * own_labels + LARGEST_LABEL_SHARE:
        return None
    return f"differs from torch: logits by {logits:.1e} of their range, {labels:.2%} of the labels"
