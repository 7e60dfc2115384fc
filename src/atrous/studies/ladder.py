"""The inference ladder: one training, scored under protocols each dearer than the one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from atrous.studies.study import Claim, Row

STEPS = ("output stride 16", "output stride 8", "and scales", "and flip")


def build_rows(settings: Mapping[str, Any], scales: Sequence[float], paper_mious: Sequence[float]) -> tuple[Row, ...]:
    """Return a row a step of the ladder, all on one training."""
    fine: dict[str, Any] = {"output_stride": 8}
    scaled = fine | {"scales": list(scales)}
    inferences: tuple[dict[str, Any], ...] = ({}, fine, scaled, scaled | {"flip": True})
    return tuple(
        Row(label, settings, inference, miou)
        for label, inference, miou in zip(STEPS, inferences, paper_mious, strict=True)
    )


def build_claims() -> tuple[Claim, ...]:
    """Return that each step gains."""
    at_16, at_8, scales, flip = STEPS
    return (
        Claim("scoring at output stride 8 beats 16, on the same weights", at_8, at_16),
        Claim("averaging over scales helps", scales, at_8),
        Claim("averaging the mirror image in helps", flip, scales),
    )
