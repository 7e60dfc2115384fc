"""Where windows lie on a side of the image, and how much each counts for each pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

OVERLAP_FRACTION = 1 / 3
"""Least share of a window that its neighbour covers too."""


@dataclass(frozen=True, eq=False)
class Span:
    """A window's stretch of one side.

    Args:
        start, stop: First pixel and the pixel after the last one.
        weights: (stop - start,) float32, how much the window counts for each pixel; all spans together give 1.
    """

    start: int
    stop: int
    weights: np.ndarray


def compute_starts(size: int, window: int) -> tuple[int, ...]:
    """Return the first pixel of each window on a side, evenly spaced, the last window flush with the end.

    Args:
        size: Pixels of the side, >= 1.
        window: Pixels of a window, >= 1.
    """
    if size <= window:
        return (0,)
    step = max(window - int(np.ceil(window * OVERLAP_FRACTION)), 1)
    gaps = -(-(size - window) // step)
    return tuple(number * (size - window) // gaps for number in range(gaps + 1))


def compute_spans(size: int, window: int | None) -> tuple[Span, ...]:
    """Cut a side into windows that blend smoothly.

    A window counts most in its middle, where it has seen most around it, and least at its ends, yet never nothing.
    An image's weight is the product of its row's and its column's, and so also adds up to 1.

    Args:
        size: Pixels of the side, >= 1.
        window: Pixels of a window, >= 1; None, or as many as the side, gives one span of weight 1.
    """
    length = min(window or size, size)
    bell = np.sin(np.pi * (np.arange(length) + 0.5) / length) ** 2
    starts = compute_starts(size, length)
    total = np.zeros(size)
    for start in starts:
        total[start : start + length] += bell
    return tuple(
        Span(start, start + length, (bell / total[start : start + length]).astype(np.float32)) for start in starts
    )
