"""From counts to scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from atrous.core.calibration import Chosen
from atrous.core.labels import LabelSpace
from atrous.core.records import (
    BandScore,
    ClassScore,
    ImageScore,
    Intervals,
    Note,
    PartScore,
    Protocol,
    Scores,
)
from atrous.core.words import describe_count
from atrous.inference.labelling.labeller import Labeller
from atrous.metrics.bootstrap import ClassPixels, Ratios, Resampling
from atrous.metrics.boundary import BANDS, SIZE_LIMITS_PX
from atrous.metrics.confusion import (
    compute_baseline,
    compute_dice,
    compute_iou,
    compute_miou,
    compute_pixel_accuracy,
    compute_precision,
    compute_recall,
    find_never_predicted,
)
from atrous.scoring.calibration import summarise_calibration, summarise_foreground
from atrous.scoring.count import Counts


def summarise(counts: Counts, labeller: Labeller, *, data: str = "", chosen: Chosen | None = None) -> Scores:
    """Work out the scores of what was counted.

    Args:
        counts: Of all images; without details there are no intervals.
        labeller: What labelled them; its classes and its protocol are recorded.
        data: Name of the data and split.
        chosen: The temperature of the confidences that are reported. Default: the labeller's.
    """
    scores = build_scores(
        counts.total.counts,
        labeller.label_space,
        labeller.protocol,
        [counts.images[index] for index in sorted(counts.images)],
        data=data,
        notes=_describe_windows(counts),
    )
    before = counts.before_crf
    if before is not None:
        scores = replace(scores, miou_before_crf=compute_miou(before.counts))
    if not counts.bands:
        return scores
    return replace(
        _add_intervals(scores, counts),
        calibration=summarise_calibration(counts.confidences, chosen or labeller.chosen),
        foreground=summarise_foreground(counts.confidences, labeller.label_space.names[-1]),
    )


def _add_intervals(scores: Scores, counts: Counts) -> Scores:
    """Return scores with the intervals that follow from each image's own counts."""
    resampling = build_resampling(counts)
    pixels = ClassPixels.sum_groups(stack_tallies(counts), resampling)
    classes = tuple(
        replace(row, iou_interval=resampling.estimate(pixels.iou.select(number)).interval)
        for number, row in enumerate(scores.classes)
    )
    intervals = Intervals(
        unit="group" if counts.groups else "image",
        count=resampling.num_groups,
        miou=resampling.estimate(pixels.iou).interval,
        pixel_accuracy=resampling.estimate(pixels.pixel_accuracy).interval,
    )
    return replace(
        scores,
        classes=classes,
        intervals=intervals,
        bands=_summarise_bands(counts, resampling),
        parts=_summarise_parts(counts, resampling),
    )


def _summarise_bands(counts: Counts, resampling: Resampling) -> tuple[BandScore, ...]:
    tallies = np.stack([counts.bands[index] for index in sorted(counts.images)])  # (N, widths, 2, 3, K)
    rows = []
    for number, band in enumerate(BANDS):
        boundary, trimap = (
            resampling.estimate(ClassPixels.sum_groups(tallies[:, number, kind], resampling).iou) for kind in (0, 1)
        )
        values = (_number_or_none(each.value) for each in (boundary, trimap))
        boundary_iou, trimap_iou = values
        rows.append(BandScore(band.describe(), boundary_iou, boundary.interval, trimap_iou, trimap.interval))
    return tuple(rows)


def _summarise_parts(counts: Counts, resampling: Resampling) -> tuple[PartScore, ...]:
    found = np.stack([counts.parts[index] for index in sorted(counts.images)])  # (N, sizes, 3)
    names = [f"below {side} x {side} px" for side in SIZE_LIMITS_PX] + ["larger"]
    rows = []
    for number, name in enumerate(names):
        num_parts, pixels, _ = found[:, number].sum(axis=0).tolist()
        groups = resampling.sum_groups(found[:, number])
        recall = resampling.estimate(Ratios(groups[:, 2:3], groups[:, 1:2]))
        rows.append(PartScore(name, num_parts, pixels, _number_or_none(recall.value), recall.interval))
    return tuple(rows)


def build_resampling(counts: Counts) -> Resampling:
    """Return the draws of images, or of clips and scenes where these are known; the same for the same images."""
    return Resampling([counts.groups.get(index, index) for index in sorted(counts.images)])


def stack_tallies(counts: Counts) -> np.ndarray:
    """Return what each image contributes to the scores of classes, in the order of their numbers, (N, 3, K)."""
    return np.stack([counts.tallies[index] for index in sorted(counts.images)])


def _describe_windows(counts: Counts) -> tuple[Note, ...]:
    if not counts.windows:
        return ()
    sides = " and ".join(str(side) for side in sorted(set(counts.windows.values())))
    of_all = f"{len(counts.windows)} of {describe_count(len(counts.images), 'image')}"
    message = f"{of_all} did not fit in memory as a whole and were labelled in windows of {sides} pixels"
    return (Note("labelled-in-windows", message),)


def build_scores(
    counts: np.ndarray,
    label_space: LabelSpace,
    protocol: Protocol,
    images: list[ImageScore],
    *,
    data: str = "",
    notes: tuple[Note, ...] = (),
) -> Scores:
    """Work out every figure from the counts of a data set.

    Args:
        counts: (K, K) pixels, rows truth, columns prediction.
        label_space: What the classes are.
        protocol: How the labels were made.
        images: Each image's own score.
        data: Name of the data and split.
        notes: What else a reader must know.
    """
    iou, recall, precision = compute_iou(counts), compute_recall(counts), compute_precision(counts)
    dice = compute_dice(counts)
    baseline_class, baseline_miou = compute_baseline(counts)
    rows = tuple(
        ClassScore(
            name=name,
            id=label_space.ids[number],
            iou=_number_or_none(iou[number]),
            recall=_number_or_none(recall[number]),
            precision=_number_or_none(precision[number]),
            dice=_number_or_none(dice[number]),
            pixels=int(counts[number].sum()),
            predicted_pixels=int(counts[:, number].sum()),
        )
        for number, name in enumerate(label_space.names)
    )
    return Scores(
        miou=compute_miou(counts),
        pixel_accuracy=compute_pixel_accuracy(counts),
        classes=rows,
        confusion=tuple(tuple(row) for row in counts.tolist()),
        images=tuple(images),
        protocol=protocol,
        baseline_class=label_space.names[baseline_class],
        baseline_miou=baseline_miou,
        never_predicted=tuple(label_space.names[number] for number in find_never_predicted(counts)),
        data=data,
        notes=notes,
    )


def _number_or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def select_examples(scores: Scores, count: int = 4) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return keys of the best and of the worst images, best and worst first, no image in both.

    Args:
        scores: Scores of a data set; images without a valid pixel are passed over.
        count: Most images of each kind; of fewer than twice as many, the better half is best.
    """
    rated = sorted((row.miou, row.key) for row in scores.images if row.miou is not None)
    keys = [key for _, key in rated]
    num_best = min(count, (len(keys) + 1) // 2)
    num_worst = min(count, len(keys) - num_best)
    return tuple(keys[::-1][:num_best]), tuple(keys[:num_worst])
