from __future__ import annotations

import csv
from pathlib import Path

import pytest

from atrous.core.errors import ConfigError
from atrous.graphs import atrous_form
from atrous.graphs.atrous_form import FASTER_FROM, LEAST_GAIN, find_rewritten_rate

TABLE = Path(__file__).parents[3] / "results" / "performance" / "atrous_graphs.csv"


def test_each_form_means_a_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atrous_form, "FASTER_FROM", {("amx", "openvino", "bf16"): 6})
    here = {"runtime": "openvino", "precision": "bf16"}
    assert find_rewritten_rate("auto", **here, kind="amx") == 6
    assert find_rewritten_rate("auto", **here, kind="avx2") is None
    assert find_rewritten_rate("taps", **here, kind="avx2") == 2
    assert find_rewritten_rate("native", **here, kind="amx") is None


def test_other_forms_and_other_formats_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown form 'tap'") as caught:
        find_rewritten_rate("tap", runtime="openvino", precision="fp32", kind="avx2")
    assert "taps" in caught.value.hint
    with pytest.raises(ConfigError, match=r"\.pt2 files have the form native alone"):
        find_rewritten_rate("taps", runtime="pt2", precision="fp32", kind="avx2")
    assert find_rewritten_rate("auto", runtime="pt2", precision="fp32", kind="amx") is None


def test_the_rule_rewrites_what_the_table_measured_as_faster() -> None:
    """From the rate that the rule names on, every measured convolution is faster by tap; without one, some are not."""
    measured: dict[tuple[str, str, str], dict[int, list[float]]] = {}
    with TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["side"] == "taps":
                rates = measured.setdefault((row["kind"], row["runtime"], row["precision"]), {})
                rates.setdefault(int(row["rate"]), []).append(float(row["times_as_fast"]))
    assert measured
    assert set(FASTER_FROM) == set(measured)
    for machine, rates in measured.items():
        slow = [rate for rate, ratios in rates.items() if min(ratios) < LEAST_GAIN]
        faster = [rate for rate in rates if rate > max(slow, default=0)]
        assert FASTER_FROM.get(machine) == (min(faster) if faster else None), machine  # type: ignore[call-overload]
