"""The inference ladder: one training, scored under protocols each dearer than the one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from atrous.studies.study import Claim, Row, Study

STEPS = ("output stride 16", "output stride 8", "and scales", "and flip")
VOC_SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)


def build_ladder(
    name: str,
    *,
    title: str,
    protocol: str,
    settings: Mapping[str, Any],
    scales: Sequence[float],
    paper_mious: Sequence[float],
    notes: tuple[str, ...] = (),
) -> Study:
    """Return a study with a row a step of the ladder, all on one training, that claims that each step gains.

    Args:
        name: As `atrous reproduce` takes it.
        title: What is scored.
        protocol: How the paper did it, in a sentence.
        settings: Of the training, by dotted key, over the base.
        scales: Of the third step.
        paper_mious: The paper's, in percent, one a step.
        notes: What differs here.
    """
    fine: dict[str, Any] = {"output_stride": 8}
    scaled = fine | {"scales": list(scales)}
    inferences: tuple[dict[str, Any], ...] = ({}, fine, scaled, scaled | {"flip": True})
    rows = tuple(
        Row(label, settings, inference, miou)
        for label, inference, miou in zip(STEPS, inferences, paper_mious, strict=True)
    )
    at_16, at_8, scaling, flip = STEPS
    claims = (
        Claim("scoring at output stride 8 beats 16, on the same weights", at_8, at_16),
        Claim("averaging over scales helps", scaling, at_8),
        Claim("averaging the mirror image in helps", flip, scaling),
    )
    return Study(name, title, protocol, rows, claims, notes)
