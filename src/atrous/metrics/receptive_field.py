"""What a filter sees of a map: taps that fall inside it, counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TapShares:
    """Shares of a map's positions by how many of a 3x3 filter's taps fall inside the map; they sum to 1.

    Args:
        rate: Distance between taps in cells.
        one: Only the centre: the filter is a 1x1 there.
        some: Between.
        nine: All of them.
    """

    rate: int
    one: float
    some: float
    nine: float


def count_valid_taps(size: int, rate: int) -> TapShares:
    """Count the taps of a 3x3 filter that fall inside a square map, at each position.

    Args:
        size: Side of the map in cells.
        rate: Distance between taps in cells.
    Source: Chen et al. 2017 (arXiv 1706.05587), Figure 4.
    """
    place = np.arange(size)
    along = 1 + (place >= rate).astype(int) + (place + rate < size)
    taps = np.outer(along, along)
    one, nine = float((taps == 1).mean()), float((taps == 9).mean())
    return TapShares(rate, one, 1.0 - one - nine, nine)
