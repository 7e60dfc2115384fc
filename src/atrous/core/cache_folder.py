"""The folder for what can be computed again: facts of files, compiled code."""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from pathlib import Path


def find_cache_folder() -> Path | None:
    """Return the user's cache folder for this program, or one for temporary files if that cannot be written.

    Returns:
        A folder of the user's own; None if there is none, such as where another user made the temporary one.
    """
    base = os.environ.get("XDG_CACHE_HOME", "") or os.path.expanduser("~/.cache")
    folder = Path(base) / "atrous"
    if folder.is_absolute():  # not so if no home folder is known
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK | os.X_OK):
                return folder
    user = os.getuid() if hasattr(os, "getuid") else 0  # 0 owns every file on Windows
    folder = Path(tempfile.gettempdir()) / f"atrous-{user}"
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        if stat.S_ISDIR(status.st_mode) and status.st_uid == user:
            return folder
    return None
