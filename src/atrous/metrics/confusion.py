"""One confusion matrix for a whole data set, and the scores computed from it.

All scores use counts pooled over the data set, never a mean over batches or images. A ratio with a denominator of zero
is nan, and classes that occur in neither truth nor prediction are excluded from means.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from atrous.core.errors import DataError
from atrous.core.labels import IGNORE_INDEX
from atrous.core.load_compiled import load_compiled

COMPILED = "atrous.metrics.compiled:count_pairs"
BLOCK_PIXELS = 2**15
"""Pixels counted at a time, so that temporary arrays fit into the cache."""


class ConfusionMatrix:
    """Pixel counts by true class (row) and predicted class (column), without ignored pixels.

    Args:
        num_classes: Number of classes, not counting the ignore index.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts = np.zeros((num_classes, num_classes), dtype=np.int64)

    def update(self, truth: Any, prediction: Any) -> None:
        """Add the pixels of an image or a batch.

        Args:
            truth: Class indices or IGNORE_INDEX, an integer array or CPU tensor.
            prediction: Class indices of the same shape; any value where the truth is ignored.
        Raises:
            DataError: The shapes differ, or a value is not a class.
        """
        true, given = np.asarray(truth), np.asarray(prediction)
        if true.shape != given.shape:
            raise DataError(f"truth and prediction have different shapes: {true.shape} and {given.shape}")
        count_pairs = load_compiled(COMPILED)
        count = _count_blocks if count_pairs is None else functools.partial(_count_compiled, count_pairs)
        counts = count(true.reshape(-1), given.reshape(-1), self.num_classes)
        if counts is None:
            self._refuse(true, given)
        else:
            self.counts += counts

    def _refuse(self, true: np.ndarray, given: np.ndarray) -> None:
        """Raise an error that names the range of indices found."""
        valid = true != IGNORE_INDEX
        for name, values in (("truth", true[valid]), ("prediction", given[valid])):
            if values.min() < 0 or values.max() >= self.num_classes:
                found = f"{values.min()} to {values.max()}"
                raise DataError(f"the {name} contains the indices {found}; classes are 0 to {self.num_classes - 1}")

    def merge(self, other: ConfusionMatrix) -> None:
        """Add the counts of another part of the data."""
        self.counts += other.counts


def _count_compiled(
    count_pairs: Callable[..., bool], true: np.ndarray, given: np.ndarray, size: int
) -> np.ndarray | None:
    """Return the counts (K, K), or None if a value is not a class."""
    counts = np.zeros((2, size, size), dtype=np.int64)
    return counts.sum(axis=0) if count_pairs(true, given, IGNORE_INDEX, counts) else None


def _count_blocks(true: np.ndarray, given: np.ndarray, size: int) -> np.ndarray | None:
    """Return the counts (K, K) without numba, or None if a value is not a class."""
    counts = np.zeros(size * size, dtype=np.int64)
    for rows, columns, num_ignored in _iter_blocks(true, given):
        if min(rows.min(), columns.min()) < 0 or max(rows.max(), columns.max()) >= size:
            return None
        cells = rows.astype(np.intp)
        cells *= size
        cells += columns.astype(np.intp, copy=False)
        counts += np.bincount(cells, minlength=size * size)
        counts[0] -= num_ignored
    return counts.reshape(size, size)


def _iter_blocks(true: np.ndarray, given: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Yield blocks of flat maps, with ignored pixels set to zero in both, and the number of ignored pixels.

    Multiplying by zero keeps the narrow dtype of the labels, and is many times faster than selecting valid pixels.
    """
    for start in range(0, true.size, BLOCK_PIXELS):
        rows, columns = true[start : start + BLOCK_PIXELS], given[start : start + BLOCK_PIXELS]
        valid = rows != IGNORE_INDEX
        num_ignored = valid.size - int(np.count_nonzero(valid))
        if num_ignored:
            rows, columns = rows * valid.astype(rows.dtype), columns * valid.astype(columns.dtype)
        yield rows, columns, num_ignored


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide; nan where the denominator is 0."""
    quotient: np.ndarray = np.divide(
        numerator, denominator, out=np.full(numerator.shape, np.nan), where=denominator > 0
    )
    return quotient


def compute_tally(counts: np.ndarray) -> np.ndarray:
    """Return the correct, the true and the predicted pixels of each class: all that IoU and accuracy are made of.

    Shapes:
        in (..., K, K) counts; out (..., 3, K)
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1)
    return np.stack([hits, counts.sum(axis=-1), counts.sum(axis=-2)], axis=-2)


def compute_iou(counts: np.ndarray) -> np.ndarray:
    """Compute intersection over union of each class; nan for classes in neither truth nor prediction.

    Shapes:
        in (K, K) counts; out (K,)
    """
    return _divide(counts.diagonal(), counts.sum(axis=1) + counts.sum(axis=0) - counts.diagonal())


def compute_recall(counts: np.ndarray) -> np.ndarray:
    """Compute correct / true pixels of each class; nan for classes without true pixels.

    Shapes:
        in (K, K) counts; out (K,)
    """
    return _divide(counts.diagonal(), counts.sum(axis=1))


def compute_precision(counts: np.ndarray) -> np.ndarray:
    """Compute correct / predicted pixels of each class; nan for classes never predicted.

    Shapes:
        in (K, K) counts; out (K,)
    """
    return _divide(counts.diagonal(), counts.sum(axis=0))


def compute_dice(counts: np.ndarray) -> np.ndarray:
    """Compute 2 * correct / (true + predicted pixels) of each class, its F1; nan for classes in neither.

    Shapes:
        in (K, K) counts; out (K,)
    """
    return _divide(2 * counts.diagonal(), counts.sum(axis=1) + counts.sum(axis=0))


def compute_miou(counts: np.ndarray) -> float | None:
    """Compute the mean IoU over the classes that occur in truth or prediction; None without such a class.

    Shapes:
        in (K, K) counts
    """
    iou = compute_iou(counts)
    present = iou[~np.isnan(iou)]
    return float(present.mean()) if present.size else None


def compute_pixel_accuracy(counts: np.ndarray) -> float | None:
    """Compute the share of valid pixels with the correct class; None without valid pixels.

    Shapes:
        in (K, K) counts
    """
    total = counts.sum()
    return float(counts.trace() / total) if total else None


def compute_baseline(counts: np.ndarray) -> tuple[int, float | None]:
    """Return the most frequent true class, and the mIoU of predicting it everywhere (None without pixels).

    That prediction has an IoU equal to the share of the class, and an IoU of 0 for every other true class.

    Shapes:
        in (K, K) counts
    """
    pixels = counts.sum(axis=1)
    most_frequent = int(pixels.argmax())
    total = pixels.sum()
    return most_frequent, float(pixels[most_frequent] / total / (pixels > 0).sum()) if total else None


def find_never_predicted(counts: np.ndarray) -> list[int]:
    """Return the classes that have true pixels but were never predicted.

    Shapes:
        in (K, K) counts
    """
    return np.flatnonzero((counts.sum(axis=1) > 0) & (counts.sum(axis=0) == 0)).tolist()
