"""Losses, from logits and labels of the same pixels to a sum.

Each entry of `LOSSES` is a `Loss` (see contracts.py); its keyword-only parameters are its options.
"""

from __future__ import annotations

from atrous.core.registry import Registry

LOSSES = Registry(
    "loss",
    (
        ("cross_entropy", "atrous.losses.cross_entropy:CrossEntropy"),
        ("ohem", "atrous.losses.ohem:OHEM"),
    ),
)
