"""Ctrl-C and SIGTERM as a request to stop at the next step boundary."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

ECHO_S = 1.0
"""Seconds in which a signal counts once: `timeout` sends its own to the command and then to the group with it."""


class StopRequest:
    """Within the block the first signal sets `requested`; another one `ECHO_S` after it or later interrupts at once.

    Outside the main thread, where signals cannot be caught, nothing is ever requested.
    """

    def __init__(self) -> None:
        self.requested = False
        self._requested_at = 0.0
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._former[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested = True
            self._requested_at = time.monotonic()
        elif time.monotonic() - self._requested_at >= ECHO_S:
            raise KeyboardInterrupt
