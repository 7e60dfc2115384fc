"""The last stage compiled by numba: from a map of logits straight to labels. Imported where an image is labelled.

Scores of a pixel are compared as they are interpolated, so that no more than the largest one of each is ever held.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numba
import numpy as np

from atrous.networks.device import count_threads

TILE_COLUMNS = 640
"""Most columns that are worked on at a time, so that two widened rows of all classes stay in the cache."""
SCORES_PER_THREAD = 2**20
"""Fewer are not worth another thread."""

Taps = tuple[np.ndarray, np.ndarray]
"""Of each pixel of a side: the cell before it, int64, and the share of the cell after that, float32."""


def label_map(logits: np.ndarray, tops: np.ndarray, rows: Taps, columns: Taps, labels: np.ndarray) -> None:
    """Find the likeliest class of each pixel, the first of equal ones.

    Between four cells of one class all pixels have it, since each class's score is a mean of its scores there. Only the
    others are interpolated.

    Threads are of our own, for a call's time: numba's end the process where two threads of a program label at once.

    Args:
        logits: A map, contiguous float32, all finite.
        tops: The likeliest class of each of its cells.
        rows: Positions of the image's rows on it, in cells.
        columns: Positions of the image's columns on it, in cells.
        labels: Filled with class indices.
    Shapes:
        logits (K, h, w); tops (h, w) uint16; labels (H, W) uint16.
    """
    height, width = labels.shape
    most = min(1 + len(logits) * height * width // SCORES_PER_THREAD, height)
    num_threads = min(count_threads(), most) if most > 1 else 1
    ends = [number * height // num_threads for number in range(num_threads + 1)]
    parts = [(logits, tops, *rows, *columns, start, stop, labels) for start, stop in pairwise(ends)]
    with ThreadPoolExecutor(num_threads) as pool:
        others = [pool.submit(_label_rows, *part) for part in parts[1:]]
        _label_rows(*parts[0])
        for other in others:
            other.result()


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _label_rows(logits, tops, row_before, row_share, column_before, column_share, start, stop, labels):  # type: ignore[no-untyped-def]
    """Label the image's rows `start` to `stop`, a tile of columns at a time."""
    num_classes, last_row, last_column = logits.shape[0], logits.shape[1] - 1, logits.shape[2] - 1
    width = labels.shape[1]
    num_tiles = (width + TILE_COLUMNS - 1) // TILE_COLUMNS
    for tile in range(num_tiles):
        left, right = tile * width // num_tiles, (tile + 1) * width // num_tiles
        common = np.empty(right - left, np.uint16)
        mixed = np.empty(right - left, np.int64)
        upper = np.empty((num_classes, right - left), np.float32)
        lower = np.empty_like(upper)
        best = np.empty(right - left, np.float32)
        index = np.empty(right - left, np.int32)
        held, count = -1, 0
        for y in range(start, stop):
            row = row_before[y]
            if row != held:
                below = min(row + 1, last_row)
                count = 0
                for x in range(left, right):
                    at, after = column_before[x], min(column_before[x] + 1, last_column)
                    top = tops[row, at]
                    common[x - left] = top
                    if tops[row, after] != top or tops[below, at] != top or tops[below, after] != top:
                        mixed[count] = x
                        count += 1
                _widen(logits, row, column_before, column_share, mixed[:count], upper)
                _widen(logits, below, column_before, column_share, mixed[:count], lower)
                held = row
            labels[y, left:right] = common
            best[:count] = -np.inf
            index[:count] = 0
            for k in range(num_classes):
                _keep_larger(upper[k], lower[k], row_share[y], np.int32(k), best[:count], index)
            for j in range(count):
                labels[y, mixed[j]] = index[j]


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _widen(logits, row, before, share, columns, widened):  # type: ignore[no-untyped-def]
    """Interpolate a row of the map at some of the image's columns."""
    last = logits.shape[2] - 1
    for k in range(logits.shape[0]):
        cells = logits[k, row]
        for j in range(len(columns)):
            x = columns[j]
            at = before[x]
            widened[k, j] = (np.float32(1) - share[x]) * cells[at] + share[x] * cells[min(at + 1, last)]


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def _keep_larger(upper, lower, share, k, best, index):  # type: ignore[no-untyped-def]
    """Mix two rows of a class, and keep where it is larger than all classes before."""
    rest = np.float32(1) - share
    for x in range(len(best)):
        score = rest * upper[x] + share * lower[x]
        larger = score > best[x]
        best[x] = score if larger else best[x]
        index[x] = k if larger else index[x]
