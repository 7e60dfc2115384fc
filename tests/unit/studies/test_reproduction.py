"""What ends a study in the middle, and that the next call goes on from there."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from atrous.core.records import Progress
from atrous.studies.reproduction import run_study
from atrous.studies.study import Base, Row, Study

BASE = Base(crop=65, batch=2, iterations=3, weights="none")
STUDY = Study(
    name="one",
    title="One row",
    protocol="",
    rows=(
        Row("row", {"model.name": "fcn-tiny", "data.options": {"num_train": 40, "num_val": 4, "size": 65}}, {}, 50.0),
    ),
    claims=(),
)


class StopAt:
    """Sends Ctrl-C, or fails, when the training has taken so many steps."""

    def __init__(self, step: int, *, fail: bool = False) -> None:
        self.step, self.fail = step, fail

    def __call__(self, progress: Progress) -> None:
        if progress.stage == "training" and progress.done == self.step:
            if self.fail:
                raise RuntimeError("the power is gone")
            signal.raise_signal(signal.SIGINT)


def find_training(folder: Path) -> Path:
    (training,) = (folder / "trainings").iterdir()
    return training


def test_an_interrupted_training_goes_on_where_it_stopped(tmp_path: Path) -> None:
    table = run_study(STUDY, BASE, tmp_path, progress=StopAt(2))
    assert table["interrupted"]
    assert table["rows"][0]["miou"] is None
    assert (tmp_path / "one" / "table.json").is_file()
    said: list[str] = []
    table = run_study(STUDY, BASE, tmp_path, on_message=said.append)
    assert "resumed after step 2" in said
    assert not table["interrupted"]
    assert table["rows"][0]["steps"] == 3
    assert not (find_training(tmp_path) / "last.ckpt").exists()


def test_a_training_that_was_killed_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the power is gone"):
        run_study(STUDY, BASE, tmp_path, progress=StopAt(1, fail=True))
    said: list[str] = []
    assert run_study(STUDY, BASE, tmp_path, on_message=said.append)["rows"][0]["steps"] == 3
    assert "resumed after step 0" in said


def test_a_training_that_was_killed_before_its_checkpoint_begins_anew(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the power is gone"):
        run_study(STUDY, BASE, tmp_path, progress=StopAt(1, fail=True))
    (find_training(tmp_path) / "last.ckpt").unlink()
    assert run_study(STUDY, BASE, tmp_path)["rows"][0]["steps"] == 3
