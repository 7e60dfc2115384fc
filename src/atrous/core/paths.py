"""Paths that people type: empty ones, and those that do not exist with what was probably meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from atrous.core.errors import DataError, UsageError
from atrous.core.registry import nearest_name

EMPTY_HINT = "Give a name or a path, or leave it out; the current folder is `.`."


def refuse_empty(value: Any, name: str, hint: str = EMPTY_HINT) -> None:
    """Refuse a text without a letter, which as a path would be the current folder; any other value is accepted.

    Args:
        value: What was given: a text, a list of which each is checked, or anything else.
        name: What it was given as, for the message.
        hint: What to do instead.
    Raises:
        UsageError: It is empty, as an unset variable of a shell is.
    """
    if isinstance(value, str) and not value.strip():
        raise UsageError(f"{name} is empty", hint)
    for item in value if isinstance(value, list | tuple) else ():
        refuse_empty(item, name, hint)


def require_existing(path: Path) -> None:
    """Refuse a path to data that leads to nothing.

    Raises:
        DataError: There is no such file or folder.
    """
    if not path.exists():
        raise DataError(f"no file or folder {path}", f"{suggest_path(path)}Check the path.")


def suggest_path(path: Path, names: Sequence[str] = ()) -> str:
    """Return a question that names what was probably meant by a path that does not exist.

    Args:
        path: The path.
        names: What could have been given instead of a path, such as names of data sets.
    Returns:
        Such as "Did you mean d/photos?", followed by a space; empty if nothing is similar.
    """
    missing = path
    while missing != missing.parent and not missing.parent.exists():
        missing = missing.parent
    siblings = _list_names(missing.parent)
    choices = {name.lower(): name for name in (*siblings, *(names if len(path.parts) == 1 else ()))}
    near = choices.get(nearest_name(missing.name.lower(), list(choices)), "")
    if not near:
        return ""
    corrected = missing.with_name(near) / path.relative_to(missing)
    return f"Did you mean {corrected if near in siblings and corrected.exists() else missing.with_name(near)}? "


def _list_names(folder: Path) -> list[str]:
    """Return the names in a folder that are not hidden; none if it cannot be listed."""
    try:
        return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError:
        return []
