"""Intervals of scores: how much a score varies with the images it is measured on.

Groups of images are drawn with replacement. A group is a clip or a scene whose images resemble each other, or a single
image. All scores here are means of ratios of sums over groups, such as mIoU, so that one function serves all.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from atrous.core.records import FEWEST_GROUPS

LEVEL = 0.95
RESAMPLINGS = 2000
MOST_WEIGHTS = 10**8
"""Weights of all resamplings, a byte each: of very many groups there are fewer resamplings."""
FEWEST_RESAMPLINGS = 200
_BLOCK_WEIGHTS = 2**16
"""Weights that are computed with at a time, so that temporary arrays fit into the cache."""


@dataclass(frozen=True)
class Ratios:
    """A score that is a mean of ratios, each a sum over groups divided by another one; ratios of 0 / 0 are omitted.

    An interval needs at least `FEWEST_GROUPS` groups with something to divide by.

    Args:
        hits: (G, C) numerators by group.
        totals: (G, C) denominators.
    """

    hits: np.ndarray
    totals: np.ndarray

    def select(self, column: int) -> Ratios:
        """Return one ratio as a score of its own."""
        return Ratios(self.hits[:, column : column + 1], self.totals[:, column : column + 1])


@dataclass(frozen=True)
class Estimate:
    """A score, or a difference of scores, with what varies when other groups are drawn.

    Args:
        value: Of the groups as they are.
        standard_error: Standard error of `value`, by linearisation.
        low: Lower end of the 95 % interval; None if the groups are too few to say.
        high: Upper end likewise.
    """

    value: float
    standard_error: float
    low: float | None
    high: float | None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The interval, if there is one."""
        return None if self.low is None or self.high is None else (self.low, self.high)


class Draws(NamedTuple):
    """A score with its standard error, of the groups as they are and of each draw, (R,)."""

    value: float
    error: float
    drawn: np.ndarray
    errors: np.ndarray


class Resampling:
    """Draws of groups with replacement, the same for all scores that are compared.

    Args:
        groups: The group of each image, (N,).
        resamplings: Number of draws.
        seed: Seed of the draws.
    """

    def __init__(self, groups: Sequence[Hashable], *, resamplings: int = RESAMPLINGS, seed: int = 0) -> None:
        numbers: dict[Hashable, int] = {}
        self._group = np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=np.intp)
        self.num_groups = len(numbers)
        size = max(self.num_groups, 1)
        generator = np.random.default_rng(seed)
        draws = max(min(resamplings, MOST_WEIGHTS // size), min(resamplings, FEWEST_RESAMPLINGS))
        self._weights = np.empty((draws, self.num_groups), dtype=np.uint8)
        for row in self._weights:
            drawn = generator.integers(0, size, self.num_groups)
            row[:] = np.minimum(np.bincount(drawn, minlength=self.num_groups), 255)

    def sum_groups(self, values: np.ndarray) -> np.ndarray:
        """Sum values of images by group.

        Shapes:
            in (N, ...) values; out (G, ...) float64
        """
        sums = np.zeros((self.num_groups, *values.shape[1:]))
        np.add.at(sums, self._group, values)
        return sums

    def estimate(self, score: Ratios) -> Estimate:
        """Return a score with its interval, which is inside [0, 1].

        The interval is symmetric on the scale of the logit, on which the distribution of a ratio is closer to a
        symmetric one.

        Args:
            score: By group of this resampling.
        """
        value, error, drawn, errors = self.evaluate([(1.0, score)])
        if not 0.0 < value < 1.0 or not _are_enough(score):
            return Estimate(value, error, None, None)
        with np.errstate(divide="ignore", invalid="ignore"):
            away, slopes = _logit(drawn) - _logit(value), drawn * (1.0 - drawn)
            half = _find_half_width(away, errors / slopes) * error / (value * (1.0 - value))
        if not np.isfinite(half):
            return Estimate(value, error, None, None)
        low, high = (1.0 / (1.0 + np.exp(-(_logit(value) + step))) for step in (-half, half))
        return Estimate(value, error, float(low), float(high))

    def estimate_difference(self, first: Sequence[Ratios], second: Sequence[Ratios]) -> Estimate:
        """Return by how much the mean of some scores exceeds that of others, with its interval.

        Args:
            first: Scores by group of this resampling, such as those of runs with several seeds.
            second: The scores that are subtracted.
        """
        terms = [*((1.0 / len(first), score) for score in first), *((-1.0 / len(second), score) for score in second)]
        value, error, drawn, errors = self.evaluate(terms)
        if not _are_enough(*first, *second):
            return Estimate(value, error, None, None)
        half = _find_half_width(drawn - value, errors) * error if error > 0.0 else 0.0  # 0: the same in every group
        if not np.isfinite(half):
            return Estimate(value, error, None, None)
        return Estimate(value, error, value - half, value + half)

    def evaluate(self, terms: Sequence[tuple[float, Ratios]]) -> Draws:
        """Return a weighted sum of scores with its standard error, and both for each draw.

        Args:
            terms: Factors with scores by group of this resampling.
        """
        ((value,), (error,)), *_ = self._iter_blocks(terms, np.ones((1, self.num_groups), dtype=np.uint8))
        values, errors = zip(*self._iter_blocks(terms, self._weights), strict=True)
        return Draws(float(value), float(error), np.concatenate(values), np.concatenate(errors))

    def _iter_blocks(
        self, terms: Sequence[tuple[float, Ratios]], weights: np.ndarray
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield values and standard errors for blocks of weights, (r,) each.

        The standard error is that of the score's linear approximation: its derivative by the weight of each group.
        """
        rows = max(_BLOCK_WEIGHTS // max(self.num_groups, 1), 1)
        correction = self.num_groups / max(self.num_groups - 1, 1)
        for start in range(0, len(weights), rows):
            block = weights[start : start + rows].astype(np.float64)  # (r, G)
            value, slope = np.zeros(len(block)), np.zeros_like(block)
            for factor, score in terms:
                hits, totals = block @ score.hits, block @ score.totals  # (r, C)
                present = totals > 0
                with np.errstate(divide="ignore", invalid="ignore"):
                    share = factor * present / present.sum(axis=1, keepdims=True)
                    ratio = np.where(present, hits / totals, 0.0)
                    scale = np.where(present, share / totals, 0.0)
                    value += np.where(present, share * ratio, 0.0).sum(axis=1) + 0.0 / present.any(axis=1)
                slope += scale @ score.hits.T
                slope -= (scale * ratio) @ score.totals.T
            yield value, np.sqrt(correction * np.einsum("rg,rg,rg->r", block, slope, slope))


def _are_enough(*scores: Ratios) -> bool:
    """Whether each score has enough groups with something to divide by."""
    return min(int((score.totals > 0).any(axis=1).sum()) for score in scores) >= FEWEST_GROUPS


def _find_half_width(deviations: np.ndarray, errors: np.ndarray) -> float:
    """Return half the width of an interval in standard errors; infinite where the draws do not bound it.

    Args:
        deviations: (R,) what each draw gives, less what all groups give.
        errors: (R,) its standard error.
    """
    usual = np.isfinite(deviations) & (errors > 0)  # others: draws without any spread, or without the class
    distance = np.where(usual, np.abs(deviations) / np.where(usual, errors, 1.0), np.inf)
    return float(np.sort(distance)[min(int(np.ceil(LEVEL * len(distance))), len(distance) - 1)])


def _logit(value: np.ndarray | float) -> np.ndarray:
    logit: np.ndarray = np.log(value) - np.log1p(-np.asarray(value))
    return logit


@dataclass(frozen=True)
class ClassPixels:
    """What images contribute to the scores of classes, by group of a resampling.

    Args:
        hits: (G, K) correctly labelled pixels.
        true: (G, K) pixels of each class in the truth.
        given: (G, K) pixels labelled as each class.
    """

    hits: np.ndarray
    true: np.ndarray
    given: np.ndarray

    @classmethod
    def sum_groups(cls, tallies: np.ndarray, resampling: Resampling) -> ClassPixels:
        """Sum what images contribute.

        Args:
            tallies: (N, 3, K), of each image what `compute_tally` returns.
            resampling: Which image is in which group.
        """
        sums = resampling.sum_groups(tallies)
        return cls(sums[:, 0], sums[:, 1], sums[:, 2])

    @property
    def iou(self) -> Ratios:
        """The IoU of each class; together their mean, the mIoU."""
        return Ratios(self.hits, self.true + self.given - self.hits)

    @property
    def pixel_accuracy(self) -> Ratios:
        """The share of valid pixels with the correct class."""
        return Ratios(self.hits.sum(axis=1, keepdims=True), self.true.sum(axis=1, keepdims=True))
