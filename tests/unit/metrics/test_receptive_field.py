from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from atrous.metrics.receptive_field import compute_tap_share, count_valid_taps


@pytest.mark.parametrize("rate", [1, 2, 4, 5, 8, 9, 12])
def test_shares_are_those_of_a_filter_of_ones_over_a_map_of_ones(rate: int) -> None:
    """A convolution of ones counts the taps itself, since padding adds zeros."""
    size = 9
    taps = F.conv2d(torch.ones(1, 1, size, size), torch.ones(1, 1, 3, 3), padding=rate, dilation=rate)
    shares = count_valid_taps(size, rate)
    assert compute_tap_share(size, rate) == pytest.approx(taps.mean().item() / 9)
    assert shares.one == pytest.approx((taps == 1).float().mean().item())
    assert shares.nine == pytest.approx((taps == 9).float().mean().item())
    assert shares.some == pytest.approx(((taps > 1) & (taps < 9)).float().mean().item())


def test_a_rate_of_the_map_leaves_a_1x1_filter() -> None:
    assert count_valid_taps(65, 65).one == 1.0
    assert count_valid_taps(65, 64).one < 1.0
    assert count_valid_taps(65, 32).nine > 0.0
    assert count_valid_taps(65, 33).nine == 0.0
