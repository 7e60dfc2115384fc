from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from atrous.inference import figures
from atrous.inference.figures import Figure, FigureTable, describe_conditions, read_clock

FIGURE = Figure("a CPU", "deeplabv3-tiny 0", 16, "fp32", "openvino", 0.25, 1.0, 0.5, 8.0, 1.0, read_clock())


def test_a_figure_is_found_for_the_same_conditions_and_about_the_same_size(tmp_path: Path) -> None:
    table = FigureTable("a CPU", tmp_path)
    table.add(FIGURE)
    assert table.find("deeplabv3-tiny 0", 16, "fp32", "openvino", 0.9) == FIGURE
    assert table.find("deeplabv3-tiny 0", 16, "fp32", "openvino", 1.1) is None
    assert table.find("deeplabv3-tiny 0", 8, "fp32", "openvino", 0.25) is None
    assert table.find("deeplabv3-tiny 0", 16, "bf16", "openvino", 0.25) is None
    assert FigureTable("another CPU", tmp_path).find("deeplabv3-tiny 0", 16, "fp32", "openvino", 0.25) is None


def test_the_nearest_size_counts_and_a_new_figure_replaces_the_old_one(tmp_path: Path) -> None:
    table = FigureTable("a CPU", tmp_path)
    other, newer = replace(FIGURE, megapixels=1.0), replace(FIGURE, backend_s=0.25)
    for figure in (FIGURE, other, newer):
        table.add(figure)
    assert table.list_current() == [other, newer]
    assert table.find("deeplabv3-tiny 0", 16, "fp32", "openvino", 0.4) == newer
    assert table.find("deeplabv3-tiny 0", 16, "fp32", "openvino", 0.6) == other


@pytest.mark.parametrize("age", [timedelta(days=figures.MOST_DAYS, minutes=1), timedelta(days=-1)])
def test_figures_that_are_old_or_of_a_clock_that_was_wrong_are_measured_again(tmp_path: Path, age: timedelta) -> None:
    table = FigureTable("a CPU", tmp_path)
    table.add(replace(FIGURE, measured=(datetime.now(UTC) - age).isoformat()))
    assert table.list_current() == []


def test_a_figure_of_a_busy_machine_is_measured_again_after_a_day(tmp_path: Path) -> None:
    table = FigureTable("a CPU", tmp_path)
    for hours, slowness in ((23, 1.5), (25, 1.5), (25, 1.1)):
        measured = (datetime.now(UTC) - timedelta(hours=hours)).isoformat()
        table.add(replace(FIGURE, output_stride=hours + round(10 * slowness), measured=measured, slowness=slowness))
    assert [figure.output_stride for figure in table.list_current()] == [38, 36]


def test_the_newest_figures_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "MOST_FIGURES", 2)
    table = FigureTable("a CPU", tmp_path)
    for stride in (32, 16, 8):
        table.add(replace(FIGURE, output_stride=stride))
    assert [figure.output_stride for figure in table.list_current()] == [16, 8]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"figures": [{"machine": "a CPU"}]}',
        '{"figures": 3}',
        '{"figures": [null]}',
        pytest.param("[" * 200_000, id="deeply nested"),
        pytest.param(json.dumps({"figures": [asdict(FIGURE) | {"torch_s": 10**400}]}), id="no float"),
    ],
)
def test_a_damaged_file_is_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / figures.FILE_NAME).write_text(content)
    table = FigureTable("a CPU", tmp_path)
    assert table.list_current() == []
    table.add(FIGURE)
    assert table.list_current() == [FIGURE]


def test_rows_without_a_rate_or_a_time_zone_do_not_count(tmp_path: Path) -> None:
    table = FigureTable("a CPU", tmp_path)
    table.add(replace(FIGURE, torch_s=0.0))
    assert table.list_current() == []
    (tmp_path / figures.FILE_NAME).unlink()
    table.add(replace(FIGURE, measured="2026-01-01T00:00:00"))
    assert table.list_current() == []


@pytest.mark.parametrize("name", ["megapixels", "torch_s", "backend_s", "convert_s", "open_s"])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_rows_with_numbers_that_are_not_finite_do_not_count(tmp_path: Path, name: str, value: float) -> None:
    (tmp_path / figures.FILE_NAME).write_text(json.dumps({"figures": [asdict(FIGURE) | {name: value}]}))
    table = FigureTable("a CPU", tmp_path)
    assert table.list_current() == []
    table.add(FIGURE)
    assert table.list_current() == [FIGURE]


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    table = FigureTable("a CPU", tmp_path / "file")
    table.add(FIGURE)
    assert table.list_current() == []


def test_conditions_name_the_processor_threads_and_versions() -> None:
    words = describe_conditions(3)
    assert "threads 3" in words
    assert "torch 2." in words
    assert describe_conditions(4) != words
