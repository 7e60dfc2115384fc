"""Paths that people type and that do not exist: what was probably meant."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from atrous.core.registry import nearest_name


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
