from __future__ import annotations

import csv

import pytest

from atrous.core.errors import MachineError
from atrous.core.records import Progress
from atrous.training.journal import Journal, build_tracker

ROW = {"step": 10, "epoch": 0.5, "seconds": 3.2, "lr": 0.01, "loss": 1.25, "miou": None, "never_predicted": "a, b"}


def read(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_csv_is_whole_after_every_row(tmp_path):
    journal = Journal(tmp_path)
    for number in range(1, 4):
        journal.add_row(ROW | {"step": 10 * number})
        rows = read(tmp_path)
        assert [row["step"] for row in rows] == [str(10 * n) for n in range(1, number + 1)]
        assert rows[-1] == {key: "" if value is None else str(value) for key, value in journal.rows[-1].items()}
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]  # no temporary file stays


def test_a_resumed_run_writes_its_former_rows_again_and_drops_later_ones(tmp_path):
    first = Journal(tmp_path)
    first.add_row(ROW)
    kept = list(first.rows)
    first.add_row(ROW | {"step": 20, "loss": 9.0})  # written after the last checkpoint
    second = Journal(tmp_path, rows=kept)
    second.add_row(ROW | {"step": 20, "loss": 0.5})
    assert [(row["step"], row["loss"]) for row in read(tmp_path)] == [("10", "1.25"), ("20", "0.5")]
    assert kept == [ROW]


def test_sentences_go_to_the_log_and_to_whoever_listens(tmp_path):
    said = []
    journal = Journal(tmp_path, on_message=said.append)
    journal.log("plan: 4 Schritte für München")
    Journal(tmp_path).log("resumed")
    assert said == ["plan: 4 Schritte für München"]
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == "plan: 4 Schritte für München\nresumed\n"


def test_progress_is_passed_on_under_the_stages_own_name(tmp_path):
    seen = []
    journal = Journal(tmp_path, progress=seen.append)
    journal.show("training", 3, 10, "loss 1.0")
    journal.watch("validating")(Progress("scoring", 1, 2, "mIoU 0.5"))
    assert seen == [Progress("training", 3, 10, "loss 1.0"), Progress("validating", 1, 2, "mIoU 0.5")]


def test_tensorboard_gets_the_numbers(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    journal = Journal(tmp_path, ["tensorboard"])
    journal.track({"train/loss": 0.75}, 5)
    journal.add_row(ROW)
    journal.close("success")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [(5, 0.75)]
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(10, 1.25)]


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_tracker_that_is_not_installed_names_its_extra(name, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(MachineError) as caught:
        build_tracker(name, tmp_path)
    assert "atrous[trackers]" in str(caught.value)
