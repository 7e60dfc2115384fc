from __future__ import annotations

import json
from pathlib import Path

import pytest

from atrous.cli.main import main


def test_the_ways_of_convolutions_as_json_and_as_tables(
    trained_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    options = ["bench", str(trained_run), "--explain", "--sizes", "65,97x33", "--output-strides", "8,16", "--quiet"]
    assert main([*options, "--precisions", "fp32", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    named = [(each["width"], each["height"], each["output_stride"]) for each in found["models"]]
    assert named == [(65, 65, 8), (65, 65, 16), (97, 33, 8), (97, 33, 16)]
    rates = [[row["rate"] for row in each["convolutions"]] for each in found["models"]]
    assert all([2, 2] in each for each in rates)
    assert all(set(row["why"]) == {"output", "of_features", "of_weight"} for row in found["models"][0]["convolutions"])
    assert found["machine"]["cpu_kind"] in ("amx", "avx512", "avx2", "other")

    assert main([*options, "--precisions", "fp32"]) == 0
    text = capsys.readouterr().out
    assert "torch, fp32, stride 8, 97 x 33 pixels" in text
    assert "head.aspp.atrous" in text
    assert "(1) " in text


def test_precisions_that_a_backend_has_not_are_skipped_unless_all_are(
    trained_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["bench", str(trained_run), "--explain", "--sizes", "65", "--backends", "onnxruntime", "--json"]
    assert main([*options, "--precisions", "bf16,fp32"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["precision"] for each in found["models"]] == ["fp32"]
    assert [note["code"] for note in found["notes"]] == ["skipped"]
    assert main([*options, "--precisions", "bf16"]) == 2


def test_explaining_times_nothing(trained_run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bench", str(trained_run), "--explain", "--out", str(tmp_path / "new")]) == 2
    assert "Remove --data and --out" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
