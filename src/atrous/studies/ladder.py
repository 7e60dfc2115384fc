"""The inference ladder: one training, scored under protocols each more expensive than the previous one."""

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
    """Return a study with one row per step of the ladder, all scoring one training. It claims that each step helps.

    Args:
        name: Name in `atrous reproduce`.
        title: What is scored.
        protocol: The paper's protocol, in one sentence.
        settings: Settings of the training by dotted key; they override those of the base.
        scales: Scales of the third and fourth step.
        paper_mious: The paper's mIoU of each step, in percent.
        notes: Differences from the paper.
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
        Claim("averaging over the flipped image helps", flip, scaling),
    )
    return Study(name, title, protocol, rows, claims, notes)
