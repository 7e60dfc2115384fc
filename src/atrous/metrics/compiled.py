"""Counting pixels, compiled by numba: one pass over truth and prediction, nothing made of them on the way."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(nogil=True, cache=True)
def count_pairs(true, given, ignored, counts):  # type: ignore[no-untyped-def]
    """Count pixels by true and given class; returns whether all are classes, and stops at the first that is not.

    Neighbours are often alike, and a count that was just written is slow to read: they take turns between two tables.

    Args:
        true: (N,) integers, class indices or the ignored index.
        given: (N,) integers, class indices; anything where the truth is ignored.
        ignored: The ignored index.
        counts: (2, K, K) int64, which are added to.
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
