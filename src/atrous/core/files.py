"""Files that are whole or not there: atomic writes, hashes, JSON."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its name only if the block ends well.

    A reader sees the old file or the new one, never half of one, even after a power cut.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_read_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def save_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_json(path: Path, value: Any) -> None:
    """Write strict JSON (no NaN) atomically, indented.

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
    """Return each path's last parts, as few as tell the paths apart."""
    parts = {path: Path(path).parts for path in paths}
    most = max(len(own) for own in parts.values())
    enough = next(n for n in range(1, most + 1) if len({own[-n:] for own in parts.values()}) == len(parts))
    return {path: "/".join(own[-enough:]) for path, own in parts.items()}
