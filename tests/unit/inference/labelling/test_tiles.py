from __future__ import annotations

import numpy as np
import pytest

from atrous.inference.labelling.tiles import compute_spans, compute_starts


def test_one_window_that_fits_counts_fully_everywhere() -> None:
    for window in (None, 100, 513):
        (span,) = compute_spans(100, window)
        assert (span.start, span.stop) == (0, 100)
        np.testing.assert_array_equal(span.weights, np.ones(100, np.float32))


def test_windows_are_evenly_spaced_and_the_last_is_flush() -> None:
    starts = compute_starts(1000, 513)
    assert starts == (0, 243, 487)
    assert starts[-1] + 513 == 1000


@pytest.mark.parametrize(("size", "window"), [(514, 513), (2000, 513), (1025, 129), (97, 33), (3, 1), (5, 2)])
def test_neighbours_overlap_by_a_third(size: int, window: int) -> None:
    starts = compute_starts(size, window)
    overlaps = window - np.diff(starts)
    assert (overlaps >= window // 3).all()
    assert np.ptp(np.diff(starts)) <= 1


def test_a_window_counts_most_in_its_middle_and_everywhere_something() -> None:
    first, *_ = compute_spans(2000, 513)
    last = compute_spans(2000, 513)[-1]
    assert first.weights[0] == last.weights[-1] == 1.0  # nothing else sees the image's edge
    middle = compute_spans(2000, 513)[1].weights
    assert middle.min() > 0
    assert middle[256] > 0.9
    assert middle[0] < 0.01
    assert np.abs(np.diff(middle)).max() < 0.02  # smooth: no seam
