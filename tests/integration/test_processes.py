"""Trainings in several processes that are started as users start them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two processes need two cores")

ROOT = Path(__file__).parents[2]
OPTIONS = (
    *("--model", "fcn-lite0", "--weights", "none", "--crop", "65", "--batch", "4", "--device", "cpu"),
    *("--set", "training.precision=fp32", "--set", "training.validations=2"),
)


def start(*words: object, module: tuple[str, ...] = ("-m", "atrous"), **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *module, *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 300) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, out, err


def test_two_processes_train_validate_and_write_once(tmp_path, shapes_folder):
    run = tmp_path / "run"
    words = (shapes_folder, *OPTIONS, "--iterations", 4, "--processes", 2, "--out", run, "--json")
    code, out, err = finish(start("train", *words))
    assert code == 0, err
    printed = json.loads(out)  # one object: only the first process prints
    assert printed["folder"] == str(run)
    assert sum(row["pixels"] for row in printed["classes"]) > 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["training"]["steps"] == 4
    assert [row["key"] for row in metrics["images"]] == [row["key"] for row in printed["images"]]
    assert len(metrics["images"]) == 3  # two in one process, one in the other
    assert (run / "log.txt").read_text().count("plan: 4 steps of 4 images") == 1
    assert err.count("plan: 4 steps") == 1
    assert not (run / ".lock").exists()


def test_an_error_is_printed_once_by_the_process_that_met_it(tmp_path, shapes_folder):
    words = (shapes_folder, *OPTIONS, "--batch", 3, "--iterations", 4, "--processes", 2, "--out", tmp_path / "run")
    code, _, err = finish(start("train", *words))
    assert code == 2, err
    assert err.count("training.batch: 3 cannot be shared by 2 processes") == 1
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()
