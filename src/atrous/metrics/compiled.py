"""Counting pixels, compiled by numba: one pass over truth and prediction, without temporary arrays."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def count_pairs(true, given, ignored, counts):  # type: ignore[no-untyped-def]
    """Count pixels by true and predicted class, in place.

    Neighbouring pixels often increment the same count, and reading a count that was just written is slow. They
    therefore alternate between two tables.

    Args:
        true: (N,) integers, class indices or the ignore index.
        given: (N,) integers, predicted class indices; any value where the truth is ignored.
        ignored: The ignore index.
        counts: (2, K, K) int64, incremented in place.
    Returns: False if a value is not a class; counting stops there.
    """
    size = counts.shape[1]
    for pixel in range(len(true)):
        row = np.int64(true[pixel])
        if row == ignored:
            continue
        column = np.int64(given[pixel])
        if row < 0 or row >= size or column < 0 or column >= size:
            return False
        counts[pixel & 1, row, column] += 1
    return True
