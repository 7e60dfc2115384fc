"""What commands print, for programs and for people."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from atrous.display.progress import Display

_KEYWORD = re.compile("`([a-z][a-z0-9_]*)(?:=([^`]+))?`")
"""A keyword of Python in a message, with or without a value."""


def print_json(value: Any) -> None:
    """Print one strict JSON object on standard output."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


@contextmanager
def open_display(*, quiet: bool) -> Iterator[Display]:
    """Yield callbacks that display the progress and messages of a command.

    Args:
        quiet: Whether to display nothing.
    """
    from atrous.display import progress

    with progress.open_display(quiet=quiet, spell=spell_options) as display:
        yield display


def spell_options(text: str) -> str:
    """Return a message with the options of the command line in place of the keywords of Python.

    Messages name keywords in backquotes, as they are written in Python: "Choose another `out`, or `crop=129`".

    Args:
        text: The message.
    Returns: Such as "Choose another --out, or --crop 129".
    """
    if _KEYWORD.search(text) is None:
        return text
    options = _list_options()

    def spell(match: re.Match[str]) -> str:
        name, value = match[1], match[2]
        if name not in options:
            return match[0]
        option = f"--{name.replace('_', '-')}"
        words = {None: option, "True": option, "False": f"--no-{option[2:]}"}
        return words.get(value) or f"{option} {value}"

    return _KEYWORD.sub(spell, text)


def _list_options() -> set[str]:
    """Return the options of all commands as keywords."""
    from typer.main import get_command

    from atrous.cli.main import build_app

    commands = getattr(get_command(build_app()), "commands", {}).values()
    options = {option for command in commands for parameter in command.params for option in parameter.opts}
    return {option[2:].replace("-", "_") for option in options if option.startswith("--")}


@contextmanager
def show_loading(display: Display) -> Iterator[None]:
    """Show on a terminal that PyTorch is being imported, which takes seconds, while the block does it."""
    from atrous.core.records import Progress

    display.progress(Progress("loading PyTorch", 0, None))
    yield
    display.progress(Progress("loading PyTorch", 1, 1))
