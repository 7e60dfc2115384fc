"""Progress of long work: bars with the remaining time on a terminal or in a notebook, occasional lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from atrous.core.records import MessageCallback, Note, NoteCollector, Progress, ProgressCallback
from atrous.display.console import build_console
from atrous.display.notebook import NotebookCell
from atrous.display.stages import StageClock

if TYPE_CHECKING:
    from rich.progress import TaskID

SECONDS_BETWEEN_LINES = 30.0


@dataclass(frozen=True)
class Display:
    """Callbacks for long work.

    Args:
        progress: Receives the progress.
        on_message: Receives messages about automatic choices and findings.
    """

    progress: ProgressCallback
    on_message: NoteCollector

    @property
    def notes(self) -> list[Note]:
        """The notes among the messages so far."""
        return self.on_message.notes


@contextmanager
def open_call(progress: ProgressCallback | bool | None, on_message: MessageCallback | None) -> Iterator[Display]:
    """Yield the callbacks of a call from Python: those that were given, and a display where there are none.

    Args:
        progress: Receives the progress; None or True: a display does; False: nothing is displayed.
        on_message: Receives messages. Default: the display, unless `progress` was given.
    """
    if callable(progress) or progress is False:
        yield Display(progress or _ignore, NoteCollector(on_message))
        return
    with open_display(quiet=False) as display:
        yield display if on_message is None else Display(display.progress, NoteCollector(on_message))


@contextmanager
def open_display(
    *, quiet: bool, console: Console | None = None, spell: Callable[[str], str] = str
) -> Iterator[Display]:
    """Yield callbacks that display the progress and messages of the work inside the block.

    Args:
        quiet: Whether to display nothing.
        console: Where to display them. Default: standard error.
        spell: Turns a message into what is displayed.
    """
    console = console or build_console(stderr=True)

    def say(message: str) -> None:
        console.print(spell(message))

    if quiet:
        yield Display(_ignore, NoteCollector())
    elif console.is_jupyter:
        cell = NotebookCell()
        try:
            yield Display(cell.show, NoteCollector(say))
        finally:
            cell.clear()
    elif console.is_terminal:
        with Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
            transient=True,
        ) as bars:
            yield Display(_BarProgress(bars).show, NoteCollector(say))
    else:
        yield Display(_LineProgress(console).show, NoteCollector(say))


def _ignore(progress: Progress) -> None:
    pass


class _BarProgress:
    """One progress bar per stage; the bar disappears when its stage has finished."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def show(self, progress: Progress) -> None:
        if progress.stage not in self._tasks:
            self._tasks[progress.stage] = self._bars.add_task(progress.stage, total=progress.total, note=progress.note)
        task = self._tasks[progress.stage]
        self._bars.update(task, completed=progress.done, total=progress.total, note=progress.note)
        if progress.done == progress.total:
            self._bars.remove_task(self._tasks.pop(progress.stage))


class _LineProgress:
    """A line at most every `SECONDS_BETWEEN_LINES` seconds."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._clock = StageClock()
        self._last_line = time.monotonic()

    def show(self, progress: Progress) -> None:
        now = time.monotonic()
        words = self._clock.describe(progress, now)
        if now - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = now
            self._console.print(words)
