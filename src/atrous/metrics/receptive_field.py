"""Taps of a filter that fall inside a feature map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TapShares:
    """Shares of the positions on a map by how many taps of a 3x3 filter fall inside the map; they sum to 1.

    Args:
        rate: Distance between taps in cells.
        one: Positions with only the centre tap inside, where the filter acts as a 1x1 convolution.
        some: Positions with some taps inside.
        nine: Positions with all nine taps inside.
    """

    rate: int
    one: float
    some: float
    nine: float


def compute_tap_share(size: int, rate: int) -> float:
    """Return the share of the taps of a 3x3 filter that fall inside a square map, over all positions.

    Args:
        size: Side of the map in cells.
        rate: Distance between taps in cells.
    """
    along = 1.0 + 2.0 * max(size - rate, 0) / size
    return (along / 3.0) ** 2


def count_valid_taps(size: int, rate: int) -> TapShares:
    """Count the taps of a 3x3 filter that fall inside a square map, over all positions.

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
