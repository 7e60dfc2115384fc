"""Atomic writes, JSON and hashes."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from atrous.core.errors import MachineError

FULL_DISK_BYTES = 2**20
"""A write that fails with less free space than this is taken to have failed for lack of space."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces `path` if the block succeeds, and is removed if it fails.

    Readers see the old file or the new one, never a part of one, even after a power cut. The file gets the permissions
    of any new file: the kernel applies the umask, which is never changed here, since it belongs to all threads.

    Args:
        path: Final path of the file; missing parent folders are made.
    Raises:
        MachineError: The disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, mode = _create_beside(path)
    try:
        yield temporary
        if stat.S_IMODE(temporary.stat().st_mode) != mode:  # some writers put a file of their own in its place
            temporary.chmod(mode)
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except Exception as error:
        # Libraries written in C++ report a full disk with messages of their own.
        if shutil.disk_usage(path.parent).free < FULL_DISK_BYTES:
            raise MachineError(f"{path}: no space left on the disk", "Free some space, or write elsewhere.") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _create_beside(path: Path) -> tuple[Path, int]:
    """Create an empty file beside `path` and return it with its permissions."""
    while True:
        temporary = path.with_name(f".{path.stem}-{secrets.token_hex(4)}{path.suffix}")
        try:
            handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            continue
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        os.close(handle)
        return temporary, mode


def _sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk; folders cannot be opened on Windows."""
    if os.name == "nt" and path.is_dir():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically.

    Args:
        path: The file.
        text: Its content.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_json(path: Path, value: Any) -> None:
    """Write strict JSON (no NaN) atomically, indented.

    Args:
        path: The file.
        value: What is written; NaN and infinities are refused.
    Raises:
        ValueError: `value` holds NaN or an infinity.
    """
    save_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def load_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def compute_sha256(path: Path) -> str:
    """Return the file's SHA-256 as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shorten_paths(paths: Collection[str]) -> dict[str, str]:
    """Shorten paths for display.

    Returns: For each path as many of its last parts as tell all paths apart.
    """
    parts = {path: Path(path).parts for path in paths}
    most = max(len(own) for own in parts.values())
    enough = next(n for n in range(1, most + 1) if len({own[-n:] for own in parts.values()}) == len(parts))
    return {path: "/".join(own[-enough:]) for path, own in parts.items()}
