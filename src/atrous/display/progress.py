"""Progress of long work: bars with the remaining time on a terminal, occasional lines in a log file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from atrous.core.records import Note, NoteCollector, ProgressCallback
from atrous.display.console import build_console

if TYPE_CHECKING:
    from rich.progress import TaskID

    from atrous.core.records import Progress

SECONDS_BETWEEN_LINES = 30.0


@dataclass(frozen=True)
class Display:
    """Callbacks for long work.

    Args:
        progress: Receives the progress; None in quiet mode.
        on_message: Receives messages about automatic choices and findings; in quiet mode they are not displayed.
    """

    progress: ProgressCallback | None
    on_message: NoteCollector

    @property
    def notes(self) -> list[Note]:
        """The notes among the messages so far."""
        return self.on_message.notes


@contextmanager
def open_display(*, quiet: bool, console: Console | None = None) -> Iterator[Display]:
    """Yield callbacks that display the progress and messages of the work inside the block.

    Args:
        quiet: Whether to display nothing.
        console: Where to display them. Default: standard error.
    """
    console = console or build_console(stderr=True)
    if quiet:
        yield Display(None, NoteCollector())
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
            yield Display(_BarProgress(bars).show, NoteCollector(console.print))
    else:
        yield Display(_LineProgress(console).show, NoteCollector(console.print))


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
        self._starts: dict[str, tuple[float, int]] = {}
        self._last_line = time.monotonic()

    def show(self, progress: Progress) -> None:
        now = time.monotonic()
        began, first = self._starts.setdefault(progress.stage, (now, progress.done))
        if progress.done == progress.total:
            del self._starts[progress.stage]  # a later stage of this name starts again
        if now - self._last_line < SECONDS_BETWEEN_LINES:
            return
        self._last_line = now
        words = [f"{progress.stage} {progress.done}" + (f" of {progress.total}" if progress.total else "")]
        if progress.total and progress.done > first:
            left = (now - began) / (progress.done - first) * (progress.total - progress.done)
            words.append(f"{describe_seconds(left)} left")
        self._console.print(", ".join([*words, progress.note] if progress.note else words))


def describe_seconds(seconds: float) -> str:
    """Format a duration in one or two units: "45 s", "4 min", "1 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
