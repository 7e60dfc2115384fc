"""From counts by confidence to what is reported of them, and to what a training chooses on its validation images."""

from __future__ import annotations

import numpy as np

from atrous.core.calibration import Calibration, Chosen, CoverageRow, Foreground, ReliabilityBin, ThresholdRow
from atrous.core.records import FEWEST_GROUPS
from atrous.core.words import describe_count
from atrous.metrics.calibration import (
    LEVELS,
    ConfidenceCounts,
    compute_bins,
    compute_calibration_error,
    compute_coverage,
    count_foreground,
    find_best_level,
)
from atrous.scoring.count import Counts

MIN_CONFIDENCES = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Values of `min_confidence` whose coverage is shown."""
NUM_THRESHOLDS = 20
"""Steps of the thresholds of the precision-recall curve."""


def choose_on(counts: Counts, data: str) -> Chosen:
    """Choose the temperature with the least loss, and for two classes the threshold with the best F1.

    Args:
        counts: Of validation images, with confidences at several temperatures.
        data: Name of the images.
    """
    confidences = counts.confidences
    if confidences is None:
        return Chosen()
    num_groups = len({counts.groups.get(index, index) for index in counts.images})
    if num_groups < FEWEST_GROUPS:
        unit, verb = "group" if counts.groups else "image", "is" if num_groups == 1 else "are"
        return Chosen(reason=f"{describe_count(num_groups, unit)} of {data} {verb} too few to choose on")
    temperature = confidences.temperatures[confidences.choose_temperature()]
    reason = f"no other one lowers the loss on {data}" if temperature == 1.0 else ""
    foreground = confidences.foreground
    level = find_best_level(count_foreground(foreground)) if foreground[1].any() else None
    return Chosen(temperature, data, reason, None if level is None else level / LEVELS)


def summarise_calibration(confidences: ConfidenceCounts | None, chosen: Chosen) -> Calibration | None:
    """Return what the counts tell of confidences with the chosen temperature; None without any pixel.

    Args:
        confidences: Counted at that temperature and at 1, among others; None if the model has no confidence.
        chosen: The temperature, and where it comes from.
    """
    if confidences is None or not confidences.counts.any():
        return None
    before = confidences.counts[confidences.temperatures.index(1.0)]
    counts = confidences.counts[confidences.temperatures.index(chosen.temperature)]
    bins = compute_bins(counts)
    coverage = [(least, *compute_coverage(counts, least)) for least in MIN_CONFIDENCES]
    return Calibration(
        chosen=chosen,
        pixels=int(counts.sum()),
        error=compute_calibration_error(counts),
        error_before=compute_calibration_error(before),
        bins=tuple(ReliabilityBin(int(row[0]), float(row[1]), float(row[2])) for row in bins[bins[:, 0] > 0]),
        coverage=tuple(
            CoverageRow(least, kept, None if np.isnan(accuracy) else accuracy) for least, kept, accuracy in coverage
        ),
    )


def summarise_foreground(confidences: ConfidenceCounts | None, name: str) -> Foreground | None:
    """Return precision against recall of the second of two classes; None for other data, or without pixels of it.

    Args:
        confidences: What was counted; None if the model has no confidence.
        name: Name of the second class.
    """
    if confidences is None or not confidences.foreground[1].any():
        return None
    counts = count_foreground(confidences.foreground)
    levels = np.linspace(0, LEVELS, NUM_THRESHOLDS + 1).astype(int).tolist()
    rows = tuple(_describe_threshold(counts, level) for level in levels)
    return Foreground(name, _describe_threshold(counts, find_best_level(counts)), rows)


def _describe_threshold(counts: np.ndarray, level: int) -> ThresholdRow:
    hits, given, true = counts[level].tolist()
    return ThresholdRow(
        threshold=level / LEVELS,
        precision=hits / given if given else None,
        recall=hits / true,
        f1=2 * hits / (given + true),
        iou=hits / (given + true - hits),
    )
