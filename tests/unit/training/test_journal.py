from __future__ import annotations

import csv

import pytest

from atrous.core.errors import MachineError, UsageError
from atrous.core.records import Progress
from atrous.core.run_folder import RunFolder
from atrous.training.journal import Journal

ROW = {"step": 10, "epoch": 0.5, "seconds": 3.2, "lr": 0.01, "loss": 1.25, "miou": None, "never_predicted": "a, b"}


def read(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_csv_is_whole_after_every_row(tmp_path):
    own = Journal(RunFolder(tmp_path))
    for number in range(1, 4):
        own.add_row(ROW | {"step": 10 * number})
        rows = read(tmp_path)
        assert [row["step"] for row in rows] == [str(10 * n) for n in range(1, number + 1)]
        assert rows[-1] == {key: "" if value is None else str(value) for key, value in own.rows[-1].items()}
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]  # no temporary file stays


def test_a_resumed_run_writes_its_former_rows_again_and_drops_later_ones(tmp_path):
    first = Journal(RunFolder(tmp_path))
    first.add_row(ROW)
    kept = list(first.rows)
    first.add_row(ROW | {"step": 20, "loss": 9.0})  # written after the last checkpoint
    second = Journal(RunFolder(tmp_path))
    second.rows = list(kept)
    second.add_row(ROW | {"step": 20, "loss": 0.5})
    assert [(row["step"], row["loss"]) for row in read(tmp_path)] == [("10", "1.25"), ("20", "0.5")]
    assert kept == [ROW]


def test_rows_of_another_version_keep_their_columns(tmp_path):
    own = Journal(RunFolder(tmp_path))
    own.rows = [{"step": 5, "former": 1}]
    own.add_row({"step": 10, "loss": 2})
    assert read(tmp_path) == [{"step": "5", "loss": "", "former": "1"}, {"step": "10", "loss": "2", "former": ""}]


def test_sentences_go_to_the_log_and_to_whoever_listens(tmp_path):
    said = []
    own = Journal(RunFolder(tmp_path), on_message=said.append)
    own.log("plan: 4 Schritte für München")
    assert list(tmp_path.iterdir()) == []  # there may be no run yet
    own.begin()
    again = Journal(RunFolder(tmp_path))
    again.begin()
    again.log("resumed")
    assert said == ["plan: 4 Schritte für München"]
    assert (tmp_path / "log.txt").read_text(encoding="utf-8") == "plan: 4 Schritte für München\nresumed\n"


def test_progress_is_passed_on_under_the_stages_own_name(tmp_path):
    seen = []
    own = Journal(RunFolder(tmp_path), progress=seen.append)
    own.show("training", 3, 10, "loss 1.0")
    own.watch("validating")(Progress("scoring", 1, 2, "mIoU 0.5"))
    assert seen == [Progress("training", 3, 10, "loss 1.0"), Progress("validating", 1, 2, "mIoU 0.5")]


def test_a_process_that_is_no_writer_writes_nothing(tmp_path):
    said = []
    quiet = Journal(RunFolder(tmp_path), is_writer=False, on_message=said.append)
    quiet.log("plan")
    quiet.add_row(ROW)
    assert said == ["plan"]
    assert list(tmp_path.iterdir()) == []


def test_why_a_training_ended_is_in_the_log(tmp_path):
    for error in (
        MachineError("no space left", "Free some."),
        MemoryError(),
        KeyboardInterrupt(),
        KeyError("surprise"),
    ):
        own = Journal(RunFolder(tmp_path))
        own.begin()
        with pytest.raises(type(error)), own:
            raise error
    text = (tmp_path / "log.txt").read_text()
    assert text.startswith("stopped: no space left\nFree some.\nstopped: out of memory\n")
    assert "\nstopped: interrupted\nstopped: Traceback (most recent call last):\n" in text
    assert text.endswith("\nKeyError: 'surprise'\n")


def test_a_log_that_cannot_be_written_is_an_error_with_its_path(tmp_path):
    (tmp_path / "log.txt").mkdir()
    with pytest.raises(UsageError, match=r"log\.txt: is a folder"):
        Journal(RunFolder(tmp_path)).begin()
    with pytest.raises(KeyError), Journal(RunFolder(tmp_path)):
        raise KeyError("the first error counts")
