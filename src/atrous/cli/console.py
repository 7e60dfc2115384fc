"""Where lines go: results to standard output, everything else to standard error."""

from __future__ import annotations

import json
from typing import Any

import typer
from rich.console import Console


def build_console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is; colours only on a terminal, none under NO_COLOR."""
    return Console(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one strict JSON object on standard output."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))
