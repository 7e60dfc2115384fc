"""Consoles for tables, progress and messages."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from typing import IO, Any, TextIO, cast

from rich.console import Console


def build_console(*, stderr: bool = False) -> Console:
    """Return a console that prints text unchanged. It uses colours on terminals only, and obeys NO_COLOR.

    Args:
        stderr: Whether to write to standard error, where what cannot be written is dropped.
    """
    stream = getattr(sys.stderr, "rich_proxied_file", sys.stderr)  # below a progress bar that is shown now
    file = cast(IO[str], _LossyStream(stream)) if stderr and stream is not None else None
    return _Console(file=file, stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Let the command line decide what to do if the reader of a pipe has seen enough; rich would exit."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class _LossyStream:
    """A stream that may go away, as standard error does with its terminal: no work may end for that."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._stream.flush()
