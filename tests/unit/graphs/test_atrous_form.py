from __future__ import annotations

import csv
from pathlib import Path

import pytest

from atrous.core.errors import ConfigError
from atrous.graphs import atrous_form
from atrous.graphs.atrous_form import FASTER, LEAST_GAIN, Rewriting, find_rewriting

TABLE = Path(__file__).parents[3] / "results" / "performance" / "atrous_graphs.csv"


def test_each_form_means_some_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atrous_form, "FASTER", {("amx", "openvino", "bf16"): Rewriting(6, 512)})
    here = {"runtime": "openvino", "precision": "bf16"}
    assert find_rewriting("auto", **here, kind="amx") == Rewriting(6, 512)
    assert find_rewriting("auto", **here, kind="avx2") is None
    assert find_rewriting("taps", **here, kind="avx2") == Rewriting()
    assert find_rewriting("native", **here, kind="amx") is None


def test_other_forms_and_other_formats_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown form 'tap'") as caught:
        find_rewriting("tap", runtime="openvino", precision="fp32", kind="avx2")
    assert "taps" in caught.value.hint
    with pytest.raises(ConfigError, match=r"\.pt2 files have the form native alone"):
        find_rewriting("taps", runtime="pt2", precision="fp32", kind="avx2")
    assert find_rewriting("auto", runtime="pt2", precision="fp32", kind="amx") is None


def test_the_rule_rewrites_what_the_table_measured_as_faster() -> None:
    """Every measured convolution that the rule includes is faster by tap, and no other rule includes more of them."""
    measured: dict[tuple[str, str, str], list[tuple[int, int, float]]] = {}
    with TABLE.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["side"] == "taps":
                gain = int(row["rate"]), int(row["channels"]), float(row["times_as_fast"])
                measured.setdefault((row["kind"], row["runtime"], row["precision"]), []).append(gain)
    assert measured
    assert set(FASTER) == set(measured)
    for machine, rows in measured.items():
        best, most = None, 1  # a single row is no evidence for maps of other sizes
        for rate, channels in sorted({row[:2] for row in rows}):
            rule = Rewriting(rate, channels)
            gains = [gain for each, count, gain in rows if rule.includes((each, each), count)]
            if min(gains) >= LEAST_GAIN and len(gains) > most:
                best, most = rule, len(gains)
        assert FASTER[machine] == best, machine  # type: ignore[index]
