"""A comparison of models on the same images, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any, Literal

from atrous.core.records import Intervals, Scores
from atrous.core.words import describe_count

Verdict = Literal["better", "worse", "undecided", "equal", "too few to say"]


@dataclass(frozen=True)
class Side:
    """What is compared: one model, or runs that differ in their seed alone.

    Args:
        name: Name of the model, or of the first run.
        models: Names of all.
        mious: The mIoU of each; None without a class.
    """

    name: str
    models: tuple[str, ...]
    mious: tuple[float | None, ...]

    @property
    def miou(self) -> float | None:
        """The mean of the mIoU over the seeds."""
        known = [miou for miou in self.mious if miou is not None]
        return fmean(known) if known else None

    @property
    def spread(self) -> float | None:
        """The standard deviation of the mIoU over the seeds; None for one seed."""
        known = [miou for miou in self.mious if miou is not None]
        return stdev(known) if len(known) > 1 else None

    def describe_seeds(self) -> str:
        """Say how far apart the seeds are; empty for one model."""
        if self.spread is None:
            return ""
        known = [miou for miou in self.mious if miou is not None]
        return (
            f"{' '.join(self.models)} differ in the seed alone: mIoU {min(known):.4f} to {max(known):.4f}, "
            f"standard deviation {self.spread:.4f}"
        )


@dataclass(frozen=True)
class ClassDifference:
    """The IoU of one class on both sides; None where there is nothing to divide by, or too few images."""

    name: str
    reference_iou: float | None
    iou: float | None
    difference: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class ImageDifference:
    """An image on which two models differ, by its own mIoU."""

    key: str
    reference_miou: float
    miou: float


@dataclass(frozen=True)
class Difference:
    """By how much one side exceeds the first one, on the same images.

    Args:
        name: Name of the side.
        reference: Name of the first side.
        miou: Difference of the mIoU.
        interval: Its 95 % interval; None if there are too few images or groups.
        standard_error: Standard error of the difference.
        verdict: "better" or "worse" if 0 is outside the interval, "undecided" if it is inside, "equal" if both label
            all images alike.
        needed: About how many images or groups would decide it in 4 of 5 cases, if the difference is as large as
            here; None unless undecided.
        classes: A row a class.
        images: The images whose own mIoU differs most, the largest difference first.
    """

    name: str
    reference: str
    miou: float | None
    interval: tuple[float, float] | None
    standard_error: float | None
    verdict: Verdict
    needed: int | None
    classes: tuple[ClassDifference, ...]
    images: tuple[ImageDifference, ...]

    def describe(self, unit: str) -> str:
        """Say the verdict in one sentence.

        Args:
            unit: What was drawn: "image" or "group".
        """
        text = f"{self.name} against {self.reference}: {self.verdict}"
        if self.miou is None or self.verdict in ("equal", "too few to say"):
            return text
        text += f", mIoU {self.miou:+.4f}"
        if self.interval is not None:
            text += f" in {self.interval[0]:+.4f} to {self.interval[1]:+.4f}"
        if self.needed is not None:
            text += f"; about {describe_count(self.needed, unit)} would decide it if the difference is as large as here"
        return text


@dataclass(frozen=True)
class Comparison:
    """Several models on the same images.

    Args:
        scores: The scores of each model, by its name.
        sides: What is compared, in the order given.
        differences: Of each side but the first, against the first one.
        intervals: What the intervals are over.
    """

    scores: dict[str, Scores]
    sides: tuple[Side, ...]
    differences: tuple[Difference, ...]
    intervals: Intervals

    def __repr__(self) -> str:
        return "\n".join(self.list_lines())

    def list_lines(self) -> list[str]:
        """Return the verdicts, the spread of the seeds, and what the intervals are over, a sentence each."""
        lines = [difference.describe(self.intervals.unit) for difference in self.differences]
        lines += [words for side in self.sides if (words := side.describe_seeds())]
        return [*lines, self.intervals.describe()]

    def to_json(self) -> dict[str, Any]:
        """Return the form that `atrous eval --json` and comparison.json share."""
        return {
            "models": [{"model": name, **scores.to_json()} for name, scores in self.scores.items()],
            "comparison": {
                "sides": [asdict(side) | {"miou": side.miou, "spread": side.spread} for side in self.sides],
                "differences": [asdict(difference) for difference in self.differences],
                "unit": self.intervals.unit,
                "count": self.intervals.count,
            },
        }
