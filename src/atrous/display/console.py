"""Consoles for tables, progress and messages."""

from __future__ import annotations

from rich.console import Console


def build_console(*, stderr: bool = False) -> Console:
    """Return a console that prints text unchanged. It uses colours on terminals only, and obeys NO_COLOR.

    Args:
        stderr: Whether to write to standard error.
    """
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)
