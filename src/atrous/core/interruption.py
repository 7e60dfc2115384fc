"""Signals that ask a program to end: Ctrl-C, a closed terminal, a scheduler."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

STOP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGBREAK")
    if hasattr(signal, name)  # Windows has the first two and the last
)
"""Ctrl-C; the end asked for by another program; a closed terminal; Ctrl-\\; Ctrl-Break."""
ECHO_S = 1.0
"""Seconds in which signals count once: `timeout` sends its own to the command and then to the group with it, and a
terminal that closes may send several."""


def interrupt() -> None:
    """Interrupt the program, as Ctrl-C does.

    Raises:
        KeyboardInterrupt: Always.
    """
    raise KeyboardInterrupt


class StopRequest:
    """Within the block the first of `STOP_SIGNALS` is a request, and one that comes `ECHO_S` after it insists.

    A signal that the caller of this process ignores on purpose, as `nohup` does with SIGHUP, stays ignored; but a shell
    script ignores Ctrl-C for every program in its background, which says nothing about the user.

    Outside the main thread, where signals cannot be caught, nothing is ever requested.

    Args:
        on_request: Called at the first signal, by the handler.
        on_repeat: Called at each later one. Default: raises KeyboardInterrupt.
    """

    def __init__(
        self, on_request: Callable[[], None] = lambda: None, on_repeat: Callable[[], None] = interrupt
    ) -> None:
        self.requested = False
        self._on_request = on_request
        self._on_repeat = on_repeat
        self._requested_at = 0.0
        self._former: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in STOP_SIGNALS:
                if signal.getsignal(number) != signal.SIG_IGN or number in (signal.SIGINT, signal.SIGTERM):
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
            self._on_request()
        elif time.monotonic() - self._requested_at >= ECHO_S:
            self._on_repeat()
