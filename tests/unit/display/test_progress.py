from __future__ import annotations

import builtins
import io
import sys
import types

import pytest
from rich.console import Console

from atrous.core.records import Note, Progress
from atrous.display import progress as module
from atrous.display.progress import open_call, open_display
from atrous.display.stages import describe_seconds


def test_quiet_displays_nothing_and_keeps_notes(capsys):
    with open_display(quiet=True) as display:
        display.progress(Progress("training", 1, 2))
        display.on_message(Note("held-out", "3 of 10 pairs held out"))
        display.on_message("converting the network")
    assert display.notes == ["3 of 10 pairs held out"]
    assert capsys.readouterr() == ("", "")


def test_a_log_file_gets_plain_lines_with_the_time_left(monkeypatch):
    now = iter([0.0, 0.0, 10.0, 31.0, 40.0, 65.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now))
    stream = io.StringIO()
    with open_display(quiet=False, console=Console(file=stream, width=200)) as display:
        for done in (100, 110, 131, 140):  # a resumed run: the first 100 cost no time
            display.progress(Progress("training", done, 200, "loss 0.41"))
        display.on_message("split: 80 to train on")
        display.progress(Progress("reading", 7, None))
    assert stream.getvalue().splitlines() == [
        "training 131 of 200, 69 s left, loss 0.41",
        "split: 80 to train on",
        "reading 7",
    ]


def test_a_terminal_gets_a_bar_per_stage_that_leaves_when_done():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with open_display(quiet=False, console=console) as display:
        bars = display.progress.__self__._bars
        display.progress(Progress("training", 1, 10, "loss 2"))
        display.progress(Progress("validation", 1, 2))
        assert [task.description for task in bars.tasks] == ["training", "validation"]
        assert "/100" not in console.file.getvalue()
        display.progress(Progress("validation", 2, 2))
        display.progress(Progress("training", 4, 10, "loss 1"))
        (task,) = bars.tasks
        assert (task.completed, task.total, task.fields["note"]) == (4, 10, "loss 1")
        display.progress(Progress("validation", 1, 2))
        assert bars.tasks[-1].completed == 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (100, "2 min"), (3600, "1 h 0 min"), (4830, "1 h 20 min")]
)
def test_durations(seconds, text):
    assert describe_seconds(seconds) == text


SENT = [Progress("training", done, 10) for done in (1, 2)]


class Stream(io.StringIO):
    """Standard error that is a terminal or not."""

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        return self._is_terminal


@pytest.mark.parametrize("is_terminal", [True, False])
@pytest.mark.parametrize("progress", [None, True, False, "callback"])
@pytest.mark.parametrize("has_receiver", [True, False])
def test_a_call_from_python_shows_its_progress_unless_told_otherwise(monkeypatch, is_terminal, progress, has_receiver):
    stream = Stream(is_terminal)
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    steps, messages = [], []
    given = steps.append if progress == "callback" else progress
    with open_call(given, messages.append if has_receiver else None) as display:
        for step in SENT:
            display.progress(step)
        display.on_message("split: 80 to train on")
    shown = stream.getvalue()
    assert steps == (SENT if progress == "callback" else [])
    assert messages == (["split: 80 to train on"] if has_receiver else [])
    assert ("training" in shown) == (progress in (None, True) and is_terminal)
    assert ("split" in shown) == (progress in (None, True) and not has_receiver)


def test_a_notebook_gets_bars_in_the_output_of_the_cell(monkeypatch):
    """Where IPython is missing, with a shell and a module that record what is displayed."""
    drawn = []

    class ZMQInteractiveShell:
        pass

    display = types.ModuleType("IPython.display")
    display.HTML = str
    display.display = lambda text, display_id: types.SimpleNamespace(update=drawn.append)
    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    with open_call(None, [].append) as shown:
        shown.progress(Progress("training", 1, 10, "loss <2"))
        shown.progress(Progress("validation", 1, 2))
        shown.progress(Progress("validation", 2, 2))
    training = '<div><progress value="1" max="10"></progress> training 1 of 10, loss &lt;2</div>'
    assert drawn[0] == training
    assert drawn[1].startswith(training + "<div>")
    assert drawn[2:] == [training, ""]
