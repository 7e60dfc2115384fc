from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from atrous.reports.plots import save_fields_plot, save_study_plot, save_taps_plot
from atrous.reports.studies import build_claim, build_row, format_study

ROW: dict[str, Any] = {
    "label": "output stride 8",
    "not_possible": "",
    "miou": 0.71239,
    "standard_error": 0.0041,
    "paper_miou": 0.7518,
    "parameters": 39_640_000,
    "image_gflops": 12.345,
    "training_s": 754.2,
    "image_s": 0.1234,
}
REFUSED = ROW | {"label": "multi-grid", "not_possible": "not possible with lite0: no block4", "miou": None}
CLAIM = {"sentence": "8 beats 16", "word": "holds", "difference": -0.0123, "standard_error": 0.002, "reason": ""}
TABLE: dict[str, Any] = {
    "table": "table1",
    "title": "Output stride",
    "paper_protocol": "VOC.",
    "notes": ["something differs"],
    "base": {
        "data": "shapes",
        "backbone": "lite0",
        "weights": "none",
        "iterations": 3000,
        "batch": 8,
        "crop": 257,
    },
    "seeds": [0, 1],
    "rows": [ROW, REFUSED, ROW | {"label": "alone", "standard_error": None, "paper_miou": None}],
    "claims": [CLAIM],
}


def read_image(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_a_row_shows_mean_error_and_the_papers_number() -> None:
    assert build_row(ROW) == ("output stride 8", "71.24 ± 0.41", "75.18", "39.64 M", "12.35", "13 min", "0.123")


def test_one_seed_has_no_error_and_the_paper_may_have_no_number() -> None:
    assert build_row(TABLE["rows"][2])[:3] == ("alone", "71.24", "—")


def test_a_row_that_is_not_possible_says_why() -> None:
    cells = build_row(REFUSED)
    assert cells[:3] == ("multi-grid", "not possible with lite0: no block4", "75.18")
    assert len(cells) == len(build_row(ROW))


def test_a_claim_shows_points_of_miou() -> None:
    assert build_claim(CLAIM) == ("8 beats 16", "-1.23 ± 0.20", "holds")
    undecided = CLAIM | {"word": "undecided", "reason": "one seed", "difference": 0.01, "standard_error": None}
    assert build_claim(undecided) == ("8 beats 16", "+1.00", "undecided (one seed)")


def test_every_line_of_a_markdown_table_has_as_many_cells() -> None:
    page = format_study(TABLE)
    lines = [line for line in page.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {8, 4}
    assert len(lines) == (2 + 3) + (2 + 1)
    assert "Note: something differs." in page
    assert "3,000 steps" in page


def test_plots_are_images_and_differ_with_what_they_show(tmp_path: Path) -> None:
    save_study_plot(TABLE, tmp_path / "one.png")
    save_study_plot(TABLE, tmp_path / "same.png")
    save_study_plot(TABLE | {"rows": [ROW | {"miou": 0.5}, *TABLE["rows"][1:]]}, tmp_path / "other.png")
    one, same, other = (read_image(tmp_path / f"{name}.png") for name in ("one", "same", "other"))
    assert np.array_equal(one, same)
    assert one.shape != other.shape or not np.array_equal(one, other)


def test_a_study_without_any_score_is_drawn(tmp_path: Path) -> None:
    save_study_plot(TABLE | {"rows": [REFUSED | {"paper_miou": None}]}, tmp_path / "plot.png")
    assert read_image(tmp_path / "plot.png").std() > 1


def test_figures_are_drawn(tmp_path: Path) -> None:
    fields = [
        {"network": "fcn", "theoretical_px": 11, "effective_px": 4.0},
        {"network": "deeplabv3", "theoretical_px": None, "effective_px": 7.0},
    ]
    taps = [{"rate": rate, "one": rate / 3, "some": 0.0, "nine": 1 - rate / 3} for rate in (1, 2, 3)]
    figures = {"map_cells": 3, "taps": taps, "fields": fields}
    save_taps_plot(figures, tmp_path / "taps.png")
    save_fields_plot(figures, {field["network"]: np.eye(21) for field in fields}, tmp_path / "fields.png")
    assert all(read_image(tmp_path / name).std() > 1 for name in ("taps.png", "fields.png"))
