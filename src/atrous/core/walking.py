"""Walking through a folder with its sub-folders: links to folders are followed, and no folder is listed twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path


def walk_folder(
    folder: Path,
    *,
    on_link: Callable[[Path, bool], None] = lambda path, is_followed: None,
    on_error: Callable[[OSError], None] | None = None,
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each folder with the names of its folders and files, sorted; folders with a leading dot are not entered.

    A link is not followed to a folder that is listed anyway, or that holds the link: such links never end.

    Args:
        folder: Where to begin.
        on_link: Receives each link to a folder, and whether it is followed.
        on_error: Receives the error of each folder that cannot be listed.
    """
    roots = [os.path.realpath(folder)]
    for walked, folders, names in os.walk(folder, onerror=on_error, followlinks=True):
        kept = []
        for name in sorted(folders):
            path = os.path.join(walked, name)
            if name.startswith(".") or not os.path.islink(path):
                kept.append(name)
                continue
            target = os.path.realpath(path)
            is_new = not any(_is_inside(target, root) or _is_inside(root, target) for root in roots)
            on_link(Path(path), is_new)
            if is_new:
                roots.append(target)
                kept.append(name)
        hidden = [name for name in kept if name.startswith(".")]
        folders[:] = [name for name in kept if not name.startswith(".")]
        yield walked, [*folders, *hidden], sorted(names)


def _is_inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
