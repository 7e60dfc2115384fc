"""How well confidences tell how many labels are correct: counts by confidence, and a temperature that improves them.

A confidence is the probability of the class given. A temperature T makes it softmax(log p / T), which never changes
which class is the likeliest (Guo et al. 2017, arXiv 1706.04599).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atrous.core.labels import IGNORE_INDEX

LEVELS = 3000
"""Equal parts of [0, 1] by which confidences are counted; their middles replace the confidences."""
RELIABILITY_BINS = 15
"""Parts of [0, 1] of the expected calibration error, each of LEVELS / RELIABILITY_BINS levels: those of Guo et al."""
TEMPERATURES = tuple((2.0 ** (np.arange(-32, 49) / 16)).tolist())
"""Temperatures among which one is chosen: 1/4 to 8, each 4.4 % above the one before."""
SAMPLED_VALUES = 2**18
"""Most numbers computed for an image and a temperature, classes x pixels: more pixels are counted on a grid."""
SAMPLED_IN_ALL = 2**21
"""Most numbers computed for an image."""


class ConfidenceCounts:
    """Pixels by confidence, wrong and correct ones, at several temperatures; counts of several images add.

    Args:
        num_classes: Number of classes.
        temperatures: Temperatures of the confidences.
    """

    def __init__(self, num_classes: int, temperatures: Sequence[float] = (1.0,)) -> None:
        self.num_classes = num_classes
        self.temperatures = tuple(temperatures)
        self.counts = np.zeros((len(self.temperatures), 2, LEVELS), dtype=np.int64)
        self.losses = np.zeros(len(self.temperatures))
        self.foreground = np.zeros((2, LEVELS), dtype=np.int64)
        """Of two classes: pixels of the first and of the second one, by the probability of the second."""

    def find_step(self, height: int, width: int) -> int:
        """Return the distance in pixels of the rows and columns of an image that are counted.

        Args:
            height: Of the image.
            width: Likewise.
        """
        most = min(SAMPLED_VALUES, SAMPLED_IN_ALL / len(self.temperatures))
        return max(int(np.ceil(np.sqrt(height * width * self.num_classes / most))), 1)

    def update(self, log_probs: np.ndarray, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Add pixels.

        Args:
            log_probs: Logarithms of the probabilities of the classes, finite.
            truth: Class indices, `IGNORE_INDEX` where ignored.
            prediction: Class indices.
        Shapes:
            log_probs (K, N) floats; truth and prediction (N,) integers.
        """
        valid = np.flatnonzero(truth != IGNORE_INDEX)
        truth, prediction = truth[valid].astype(np.intp), prediction[valid].astype(np.intp)
        log_probs = log_probs[:, valid]
        columns = np.arange(len(valid))
        true, given = log_probs[truth, columns], log_probs[prediction, columns]
        offset = (truth == prediction) * LEVELS
        if self.num_classes == 2:
            level = np.minimum((np.exp(log_probs[1]) * LEVELS).astype(np.intp), LEVELS - 1)
            self.foreground += np.bincount(truth * LEVELS + level, minlength=2 * LEVELS).reshape(2, LEVELS)
        for number, temperature in enumerate(self.temperatures):
            total = np.log(np.exp(log_probs / temperature).sum(axis=0))
            self.losses[number] += (total - true / temperature).sum(dtype=np.float64)
            level = np.minimum((np.exp(given / temperature - total) * LEVELS).astype(np.intp), LEVELS - 1)
            self.counts[number] += np.bincount(offset + level, minlength=2 * LEVELS).reshape(2, LEVELS)

    def merge(self, other: ConfidenceCounts) -> None:
        """Add the counts of other images at the same temperatures."""
        self.counts += other.counts
        self.losses += other.losses
        self.foreground += other.foreground

    def choose_temperature(self) -> int:
        """Return the number of the temperature with the least loss (negative log-likelihood); 1 if none is less."""
        one = self.temperatures.index(1.0)
        best = int(self.losses.argmin())
        return best if self.losses[best] < self.losses[one] else one


def compute_bins(counts: np.ndarray) -> np.ndarray:
    """Return pixels, mean confidence and accuracy of equal parts of [0, 1]; nan where there are no pixels.

    Args:
        counts: Wrong and correct pixels by level of confidence.
    Shapes:
        in (2, LEVELS); out (RELIABILITY_BINS, 3)
    """
    middles = (np.arange(LEVELS) + 0.5) / LEVELS
    pixels, correct, confidence = (
        values.reshape(RELIABILITY_BINS, -1).sum(axis=1)
        for values in (counts.sum(axis=0), counts[1], counts.sum(axis=0) * middles)
    )
    with np.errstate(invalid="ignore"):
        return np.stack([pixels, confidence / pixels, correct / pixels], axis=1)


def compute_calibration_error(counts: np.ndarray) -> float:
    """Return the expected calibration error: the mean over pixels of |confidence - accuracy| of their part of [0, 1].

    Args:
        counts: Wrong and correct pixels by level of confidence; nan without pixels.
    Shapes:
        in (2, LEVELS)
    Source: Guo et al. 2017 (arXiv 1706.04599), section 2, with 15 bins as in its section 5.
    """
    bins = compute_bins(counts)
    pixels, confidence, accuracy = bins[bins[:, 0] > 0].T
    total = pixels.sum()
    return float((pixels * np.abs(confidence - accuracy)).sum() / total) if total else float("nan")


def compute_coverage(counts: np.ndarray, min_confidence: float) -> tuple[float, float]:
    """Return the share of pixels with at least some confidence, and the share of these that are correct.

    Args:
        counts: Wrong and correct pixels by level of confidence.
        min_confidence: The least confidence, rounded up to a level.
    Shapes:
        in (2, LEVELS)
    Returns: Coverage and accuracy; nan where there is nothing to divide by.
    """
    kept = counts[:, int(np.ceil(min_confidence * LEVELS - 1e-6)) :].sum(axis=1)
    with np.errstate(invalid="ignore"):
        return float(np.float64(kept.sum()) / counts.sum()), float(np.float64(kept[1]) / kept.sum())


def count_foreground(foreground: np.ndarray) -> np.ndarray:
    """Return what labelling as the second of two classes gives, for each level of its probability from which on it is.

    Args:
        foreground: Pixels of the first and of the second class by the probability of the second.
    Shapes:
        in (2, LEVELS); out (LEVELS + 1, 3) int64: correct pixels of the second class, pixels labelled as it, and its
        pixels.
    """
    kept = np.zeros((LEVELS + 1, 2), dtype=np.int64)
    kept[:-1] = foreground[:, ::-1].cumsum(axis=1)[:, ::-1].T
    return np.stack([kept[:, 1], kept.sum(axis=1), np.full(LEVELS + 1, foreground[1].sum())], axis=1)


def find_best_level(rows: np.ndarray) -> int:
    """Return the level with the best F1, and so the best IoU: the one nearest to 0.5 of equal ones.

    Args:
        rows: What `count_foreground` returns; the second class has pixels.
    Shapes:
        in (LEVELS + 1, 3)
    """
    f1 = 2 * rows[:, 0] / (rows[:, 1] + rows[:, 2])
    best = np.flatnonzero(f1 == f1.max())
    return int(best[np.abs(best - LEVELS / 2).argmin()])
