from __future__ import annotations

import os
import shutil
from contextlib import contextmanager

import pytest

from atrous.cli import launch
from atrous.cli.launch import is_first, must_launch
from atrous.cli.main import main
from atrous.core.errors import OtherProcessFailed, UsageError
from atrous.core.launch import Launch
from atrous.core.spinning import CHOSEN_THREADS, THREADS, choose_threads
from atrous.training.world import World


class Child:
    """A process that has ended with a code."""

    def __init__(self, code):
        self.returncode = code

    def poll(self):
        return self.returncode

    def kill(self):
        pass

    wait = kill


@pytest.fixture
def cores(monkeypatch):
    monkeypatch.setattr(launch, "count_usable_cores", lambda: 4)


def test_the_first_process_starts_the_others_and_they_start_none(monkeypatch, cores):
    assert not must_launch(None)
    assert not must_launch(1)
    assert must_launch(4)
    assert is_first()
    for name, value in Launch(1, 4, "127.0.0.1", 29500).to_variables().items():
        monkeypatch.setenv(name, value)
    assert not must_launch(4)
    assert not must_launch(None)
    assert not is_first()
    with pytest.raises(UsageError, match="`processes=2` in one of 4 processes"):
        must_launch(2)


def test_only_the_first_process_makes_folders_before_all_have_met(
    monkeypatch, capsys, tmp_path, trained_run, shapes_folder
):
    """A check that makes a folder removes it again, and would do so under the feet of another process."""

    def meet(value):
        raise UsageError("they meet here", "")

    @contextmanager
    def open_world():
        yield World(1, 2, reduce=meet, broadcast=meet, gather=meet)

    made, other = [], shutil.copytree(trained_run, tmp_path / "other")
    monkeypatch.setattr("atrous.core.output_folder._make", lambda folder: made.append(folder) or [])
    monkeypatch.setattr("atrous.training.world.open_world", open_world)
    for name, value in Launch(1, 2, "127.0.0.1", 29500).to_variables().items():
        monkeypatch.setenv(name, value)
    for words in (
        ["train", str(shapes_folder)],
        ["eval", str(trained_run)],
        ["eval", str(trained_run), str(other), str(shapes_folder)],
        ["predict", str(shapes_folder / "images"), "--model", str(trained_run)],
    ):
        assert main([*words, "--out", str(tmp_path / "out")]) == 2
        assert "they meet here" in capsys.readouterr().err
    assert made == []


def test_more_processes_than_cores_are_refused_by_every_command(cores, capsys, tmp_path, trained_run, shapes_folder):
    commands = (
        ["train", "shapes", "--out", str(tmp_path / "run")],
        ["eval", str(trained_run)],
        ["predict", str(shapes_folder / "images"), "--model", str(trained_run), "--out", str(tmp_path / "out")],
    )
    for words in commands:
        assert main([*words, "--processes", "5"]) == 2
        assert "--processes 5: 4 cores can be used here" in capsys.readouterr().err
    assert main(["eval", str(trained_run), "--crf-search", "--processes", "2"]) == 2
    assert "one process alone compares settings of DenseCRF" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("own", "threads"), [(None, "2"), ("3", "3"), ("4", "4")])
def test_cores_are_shared_out_where_a_quota_bounds_the_first_process(monkeypatch, cores, own, threads):
    """The first process has taken the threads of the whole quota for itself; what its user sets is kept."""
    started: list[dict[str, str]] = []
    for name in (THREADS, CHOSEN_THREADS):
        monkeypatch.setenv(name, "")  # so that it is undone
        monkeypatch.delenv(name)
    if own is None:
        choose_threads(os.environ, 4)
    else:
        monkeypatch.setenv(THREADS, own)
    monkeypatch.setattr(launch.subprocess, "Popen", lambda *_, env, **__: started.append(env))
    launch._start(["train"], Launch(0, 2, "127.0.0.1", 29500))
    assert started[0][THREADS] == threads


@pytest.mark.parametrize(
    ("codes", "expected"),
    [((0, 0), 0), ((OtherProcessFailed.exit_code, 3), 3), ((130, 130), 130), ((5, -9), 5), ((1, 0), 1), ((0, -9), 5)],
)
def test_the_exit_code_is_that_of_the_process_that_failed_first(monkeypatch, capsys, cores, codes, expected):
    children = iter(map(Child, codes))
    monkeypatch.setattr(launch, "_start", lambda words, given: next(children))
    assert main(["train", "shapes", "--processes", "2"]) == expected
    assert capsys.readouterr().err == ""


def test_what_the_first_process_can_no_longer_report_is_reported_for_it(monkeypatch, capsys, cores):
    children = iter((Child(-9), Child(OtherProcessFailed.exit_code)))
    monkeypatch.setattr(launch, "_start", lambda words, given: next(children))
    assert main(["train", "shapes", "--processes", "2"]) == 5
    assert "process 0 of 2 was killed (SIGKILL)" in capsys.readouterr().err
