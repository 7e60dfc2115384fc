"""What commands print for programs to read."""

from __future__ import annotations

import json
from typing import Any

import typer


def print_json(value: Any) -> None:
    """Print one strict JSON object on standard output."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))
