from __future__ import annotations

import pytest

from atrous.training.schedules import compute_poly


def test_the_factors_are_those_of_the_formula():
    assert compute_poly(0, 100) == 1.0
    assert compute_poly(50, 100) == pytest.approx(0.5**0.9)
    assert compute_poly(99, 100) == pytest.approx(0.01**0.9)
    assert compute_poly(30, 100, power=2.0) == pytest.approx(0.49)


def test_steps_beyond_the_total_stay_at_zero_and_real():
    for step in (100, 101, 1000):
        factor = compute_poly(step, 100)
        assert factor == 0.0
        assert isinstance(factor, float)  # a negative base under 0.9 would be complex


def test_it_is_a_function_of_the_step_and_falls():
    forwards = [compute_poly(step, 40) for step in range(40)]
    backwards = [compute_poly(step, 40) for step in reversed(range(40))]
    assert forwards == backwards[::-1]
    assert forwards == sorted(forwards, reverse=True)


def test_the_warm_up_rises_linearly_on_top_of_the_schedule():
    plain = [compute_poly(step, 50) for step in range(50)]
    warmed = [compute_poly(step, 50, warmup_steps=4) for step in range(50)]
    ratios = [w / p for w, p in zip(warmed, plain, strict=True)]
    assert ratios[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert ratios[5:] == [1.0] * 45
