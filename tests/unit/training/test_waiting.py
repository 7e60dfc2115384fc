from __future__ import annotations

import pytest

from atrous.training.waiting import DataWait


def test_the_share_leaves_out_the_first_step_and_says_what_helps():
    wait = DataWait(workers=2)
    assert wait.share is None
    wait.add(30.0, 1.0)  # workers start
    assert "not measured" in wait.describe()
    wait.add(0.75, 0.25)
    wait.add(0.25, 0.75)
    assert wait.share == pytest.approx(0.5)
    assert wait.describe().startswith("waiting for data: 50% of 1.00 s per step; use more `workers` (now 2) or image")


def test_a_small_share_is_said_without_advice():
    wait = DataWait(workers=0)
    for _ in range(3):
        wait.add(0.01, 0.99)
    assert wait.describe() == "waiting for data: 1% of 1.00 s per step"
