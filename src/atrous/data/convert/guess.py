"""Which format of annotations a source has, by what its files look like."""

from __future__ import annotations

import shlex
from pathlib import Path

from atrous.core.errors import UsageError
from atrous.data import CONVERTERS

_COMMAND = "`atrous convert {} --from {} --out FOLDER`"


def find_formats(source: Path) -> list[str]:
    """Return the names of the formats that a file or a folder looks like."""
    return [name for name in CONVERTERS if CONVERTERS.load(name).recognise(source)]


def guess_format(source: Path) -> str:
    """Return the name of the only format that a source looks like.

    Raises:
        UsageError: It looks like none, or like several.
    """
    found = find_formats(source)
    if len(found) == 1:
        return found[0]
    looks = f"looks like {' and like '.join(found)}" if found else "is in no format that is recognised"
    raise UsageError(f"{source} {looks}", f"Name its format: {', '.join(found or CONVERTERS)}.")


def suggest_conversion(source: Path) -> str:
    """Return a sentence with the command that converts a folder of annotations; empty if it looks like none."""
    place = shlex.quote(str(source))
    commands = [_COMMAND.format(place, name) for name in find_formats(source)]
    return f"These are annotations: {' or '.join(commands)} makes images and masks of them. " if commands else ""
