"""The benchmark of small steps: that it runs whole, continues, and that its rows follow from the counts it keeps."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest

from atrous.metrics.confusion import compute_miou

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_it_runs_whole_and_its_rows_follow_from_the_counts(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import small_steps

    words = ["--smoke", "--model", "deeplabv3-tiny", "--seeds", "0", "1"]
    places = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["small_steps.py", *words, *places])
    small_steps.main()
    with (tmp_path / "out" / "small_steps.csv").open(newline="") as file:
        rows = {(row["what"], row["seeds"]): float(row["miou"]) for row in csv.DictReader(file)}
    stored = tmp_path / "out" / "counts" / "smoke-2-steps"

    def score(variant: str, seed: int) -> float:
        with np.load(small_steps.find_counts(stored, "val", variant, seed)) as counts:
            return compute_miou(counts["counts"].sum(0)) or 0.0

    plain = [score(small_steps.PLAIN, seed) for seed in (0, 1)]
    for variant in small_steps.VARIANTS:
        mious = [score(variant, seed) for seed in (0, 1)]
        for seed in (0, 1):
            assert rows[variant, str(seed)] == pytest.approx(mious[seed], abs=1e-4)
        if variant != small_steps.PLAIN:
            step = fmean(mious) - fmean(plain)
            assert rows[f"{variant}, against {small_steps.PLAIN}", "0 1"] == pytest.approx(step, abs=1e-4)
    assert rows["the second seed against the first", "0 1"] == pytest.approx(plain[1] - plain[0], abs=1e-4)
    assert rows["standard deviation of the seeds", "0 1"] == pytest.approx(stdev(plain), abs=1e-4)
    capsys.readouterr()
    small_steps.main()
    assert "scored" not in capsys.readouterr().out  # neither trained nor scored a second time
