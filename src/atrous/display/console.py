"""The consoles that tables, progress and messages are written to."""

from __future__ import annotations

from rich.console import Console


def build_console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is; colours only on a terminal, none under NO_COLOR."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)
