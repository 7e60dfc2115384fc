"""Progress in the output of a notebook's cell, with nothing but IPython: no widgets, which many notebooks lack."""

from __future__ import annotations

import html
import importlib
import time
from typing import Any

from atrous.core.records import Progress
from atrous.display.stages import StageClock

SECONDS_BETWEEN_DRAWINGS = 0.2


class NotebookCell:
    """One bar per stage, drawn again in place; the bar of a finished stage disappears."""

    def __init__(self) -> None:
        self._display: Any = importlib.import_module("IPython.display")
        self._handle = self._display.display(self._display.HTML(""), display_id=True)
        self._clock = StageClock()
        self._bars: dict[str, str] = {}
        self._last_drawing = 0.0

    def show(self, progress: Progress) -> None:
        """Receive the progress of a stage."""
        now = time.monotonic()
        is_new = progress.stage not in self._bars
        total = "" if progress.total is None else f' max="{max(progress.total, 1)}"'
        words = html.escape(self._clock.describe(progress, now))
        self._bars[progress.stage] = f'<div><progress value="{progress.done}"{total}></progress> {words}</div>'
        if progress.done == progress.total:
            del self._bars[progress.stage]
        if is_new or progress.done == progress.total or now - self._last_drawing >= SECONDS_BETWEEN_DRAWINGS:
            self._last_drawing = now
            self._draw("".join(self._bars.values()))

    def clear(self) -> None:
        """Remove all bars."""
        self._draw("")

    def _draw(self, text: str) -> None:
        self._handle.update(self._display.HTML(text))
