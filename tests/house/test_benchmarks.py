"""Benchmarks are run by hand; that they still fit the source is seen here."""

from __future__ import annotations

import argparse
import csv
import importlib
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
TABLES = sorted((FOLDER.parent / "results" / "performance").glob("*.csv"))
DESCRIBED = ("megapixels", "windows", "size", "parameters_m", "gflops", "logits", "mixed_cells")
"""Columns behind that of the candidate which are the same whenever it is measured."""


def change_figure(column: str, value: str) -> str:
    """Return what another measurement could have given in this column."""
    if column == "chosen" or not value:
        return "" if value else "yes" if column == "chosen" else ""
    return f"{float(value) * 1.25 + 0.01:.4g}"


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.py")))
def test_every_benchmark_can_be_imported(name, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    importlib.import_module(name)


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_every_ratio_of_a_table_that_falls_is_reported(table, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    run = importlib.import_module("run")
    rows = run.read_table(table)
    columns = list(rows[0])
    measured = [key for key in columns[columns.index("side") + 1 :] if key not in DESCRIBED and key != "times_as_fast"]
    again = [{**row, **{key: change_figure(key, row[key]) for key in measured}} for row in rows]
    assert again != rows
    assert run.find_fallen(rows, again) == []
    fallen = run.find_fallen(rows, [{**row, "times_as_fast": str(float(row["times_as_fast"]) / 2)} for row in again])
    assert len(fallen) == len(rows)


def test_rows_of_another_number_of_threads_are_kept(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    harness = importlib.import_module("harness")
    options = argparse.Namespace(allocator="default", out=tmp_path)
    for threads, seconds in ((2, 1.0), (1, 3.0), (2, 2.0)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        harness.report("times", {"size": 9}, {"a": [seconds], "b": [seconds]}, reference="a", options=options)
    rows = harness.read_table(tmp_path / "times.csv")
    assert [(row["threads"], row["median_ms"]) for row in rows] == [("1", "3000")] * 2 + [("2", "2000")] * 2


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_a_report_of_rows_that_a_table_has_leaves_the_others(table, tmp_path, monkeypatch):
    """Of each condition and candidate, a table has one row."""
    monkeypatch.syspath_prepend(FOLDER)
    harness = importlib.import_module("harness")
    rows = harness.read_table(table)
    columns = list(rows[0])
    context = dict.fromkeys(key for key in columns if key in DESCRIBED or columns.index(key) < columns.index("threads"))
    assert len({harness._identify(row, context) for row in rows}) == len(rows)
    last = {key: rows[-1][key] for key in context}
    same = [row for row in rows if {key: row[key] for key in context} == last]
    (tmp_path / table.name).write_bytes(table.read_bytes())
    monkeypatch.setattr(torch, "get_num_threads", lambda: int(rows[-1]["threads"]))
    monkeypatch.setattr(harness, "find_cpu_kind", lambda: last["kind"])
    options = argparse.Namespace(allocator=rows[-1]["allocator"], out=tmp_path)
    times = {row["side"]: [1.0] for row in same}
    harness.report(table.stem, last, times, reference=rows[-1]["side"], options=options)
    with (tmp_path / table.name).open(newline="") as file:
        written = list(csv.DictReader(file))
    conditions = {"threads": rows[-1]["threads"], "allocator": rows[-1]["allocator"]}
    replaced = [row for row in same if {key: row[key] for key in conditions} == conditions]
    assert [row for row in written if row["median_ms"] != "1000"] == [row for row in rows if row not in replaced]
