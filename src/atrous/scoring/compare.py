"""Models compared on the same images: paired differences with their intervals, and the images that differ most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from atrous.core.comparison import ClassDifference, Comparison, Difference, ImageDifference, Side, Verdict
from atrous.core.errors import DataError, UsageError
from atrous.core.records import Intervals, Scores
from atrous.data.contracts import SegmentationDataset
from atrous.data.samples import read_as, read_sample
from atrous.inference.labelling.labeller import Labeller
from atrous.metrics.bootstrap import ClassPixels, Estimate, Ratios, Resampling
from atrous.scoring.count import Counts
from atrous.scoring.strips import shrink_views
from atrous.scoring.summarise import build_resampling, stack_tallies

DIFFERING_IMAGES = 6
_ERRORS_TO_DECIDE = 2.8
"""Standard errors that a difference has to be from 0, to be outside a 95 % interval in 4 of 5 cases (1.96 + 0.84)."""
_MOST_ERRORS = 1000
"""Times that a standard error exceeds a difference, from which on it is rounding: no number of images decides it."""


@dataclass(frozen=True, eq=False)
class Measured:
    """A model with what was counted on some data.

    Args:
        name: Name of the model, for messages and tables.
        labeller: What labels.
        dataset: The data.
        counts: What was counted.
        scores: The scores of these counts.
        recipe: All that decides what a run learns, but for its seed; empty if that is not known.
        seed: The seed of the run.
    """

    name: str
    labeller: Labeller
    dataset: SegmentationDataset
    counts: Counts
    scores: Scores
    recipe: str = ""
    seed: int | None = None


def compare_models(models: Sequence[Measured]) -> Comparison:
    """Compare models that were scored on the same images; runs of one recipe with several seeds are one side.

    All scores are of the same draws of images, so that what is hard for all models is in no difference.

    Args:
        models: At least two.
    Raises:
        UsageError: Two have the same name.
        DataError: They were scored on other images, or on other pixels of them.
    """
    _require_same_images(models)
    resampling = build_resampling(models[0].counts)
    pixels = {each.name: ClassPixels.sum_groups(stack_tallies(each.counts), resampling) for each in models}
    by_name = {each.name: each for each in models}
    sides = _build_sides(models)
    first, *others = sides
    intervals = models[0].scores.intervals
    return Comparison(
        scores={each.name: each.scores for each in models},
        sides=sides,
        differences=tuple(_compare(side, first, by_name, pixels, resampling) for side in others),
        intervals=intervals or Intervals("image", resampling.num_groups, None, None),
    )


def _require_same_images(models: Sequence[Measured]) -> None:
    first = models[0]
    if len({each.name for each in models}) < len(models):
        raise UsageError("two models have the same name", "Give each model once.")
    for other in models[1:]:
        if [row.key for row in other.scores.images] != [row.key for row in first.scores.images]:
            raise DataError(
                f"{other.name} was scored on other images than {first.name}", "Give data on which all are scored."
            )
        if not np.array_equal(stack_tallies(other.counts)[:, 1], stack_tallies(first.counts)[:, 1]):
            raise DataError(
                f"{other.name} was scored on other pixels than {first.name}: they read or ignore ids differently",
                "Say how masks are read in the atrous.yaml of the data: label_map, colours and ignore.",
            )


def _build_sides(models: Sequence[Measured]) -> tuple[Side, ...]:
    """Put runs whose settings differ in the seed alone together."""
    together: dict[str, list[Measured]] = {}
    for each in models:
        mates = [mate.seed for mate in together.get(each.recipe, [])]
        key = each.recipe if each.recipe and each.seed not in mates else f"model {each.name}"
        together.setdefault(key, []).append(each)
    return tuple(
        Side(members[0].name, tuple(each.name for each in members), tuple(each.scores.miou for each in members))
        for members in together.values()
    )


def _compare(
    side: Side,
    first: Side,
    models: dict[str, Measured],
    pixels: dict[str, ClassPixels],
    resampling: Resampling,
) -> Difference:
    own, theirs = ([pixels[name].iou for name in each.models] for each in (side, first))
    found = resampling.estimate_difference(own, theirs)
    verdict = _decide(found)
    needed = None
    if verdict == "undecided" and abs(found.value) > found.standard_error / _MOST_ERRORS:
        needed = _round_up(resampling.num_groups * (_ERRORS_TO_DECIDE * found.standard_error / found.value) ** 2)
    classes = []
    for number, row in enumerate(models[side.name].scores.classes):
        columns = [[score.select(number) for score in scores] for scores in (own, theirs)]
        estimate = resampling.estimate_difference(*columns)
        iou, reference = (_divide(scores) for scores in columns)
        classes.append(ClassDifference(row.name, reference, iou, _known(estimate.value), estimate.interval))
    return Difference(
        name=side.name,
        reference=first.name,
        miou=_known(found.value),
        interval=found.interval,
        standard_error=_known(found.standard_error),
        verdict=verdict,
        needed=needed,
        classes=tuple(classes),
        images=_find_differing(models[side.name].scores, models[first.name].scores),
    )


def _decide(found: Estimate) -> Verdict:
    if found.interval is None:
        return "too few to say"
    low, high = found.interval
    if low == high == 0.0:
        return "equal"
    return "better" if low > 0.0 else "worse" if high < 0.0 else "undecided"


def _round_up(number: float) -> int:
    """Round to two digits: more are not known."""
    return int(float(f"{number:.1e}"))


def _divide(scores: Sequence[Ratios]) -> float | None:
    """Return the mean of single ratios over seeds."""
    ratios = [score.hits.sum() / total for score in scores if (total := score.totals.sum()) > 0]
    return float(np.mean(ratios)) if ratios else None


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _find_differing(own: Scores, theirs: Scores) -> tuple[ImageDifference, ...]:
    rows = [
        ImageDifference(row.key, other.miou, row.miou)
        for row, other in zip(own.images, theirs.images, strict=True)
        if row.miou is not None and other.miou is not None and row.miou != other.miou
    ]
    return tuple(sorted(rows, key=lambda row: -abs(row.miou - row.reference_miou))[:DIFFERING_IMAGES])


def iter_drawings(difference: Difference, models: Sequence[Measured]) -> Iterator[tuple[ImageDifference, np.ndarray]]:
    """Yield the images that differ most, each (H, W, 3): image, truth, reference and the other model, left to right.

    Args:
        difference: Which images of which two models.
        models: All that were compared.
    """
    chosen = {each.name: each for each in models}
    reference, other = chosen[difference.reference], chosen[difference.name]
    datasets = [read_as(each.dataset, each.labeller.form) for each in (reference, other)]
    dataset = datasets[0]
    numbers = {dataset.key(index): index for index in range(len(dataset))}
    for row in difference.images:
        sample = read_sample(dataset, numbers[row.key])
        label_maps = [sample.labels]
        for each, own in zip((reference, other), datasets, strict=True):
            image = sample.image if own is dataset else read_sample(own, numbers[row.key]).image
            label_maps.append(each.labeller.label_image(image, confidence=False)[0])
        yield row, shrink_views(reference.labeller, sample.image, label_maps).draw()
