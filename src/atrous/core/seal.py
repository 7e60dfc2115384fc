"""Seals: checksums inside files, by which a file that has changed since it was written is found."""

from __future__ import annotations

import hashlib
import mmap
import secrets
import zipfile
from collections.abc import Sequence
from pathlib import Path

from atrous.core.errors import ModelFileError

SEAL_KEY = "sha256"
"""The key of the metadata that holds a seal: the SHA-256 of the files, with zeros in its own place."""


def draw_seal() -> str:
    """Return a unique text of the length of a seal, to be written in its place; `seal_files` replaces it."""
    return secrets.token_hex(hashlib.sha256().digest_size)


def seal_files(paths: Sequence[Path], drawn: str) -> None:
    """Write the seal of some files in its place.

    Args:
        paths: The files that belong together; the first one has `drawn` in its metadata.
        drawn: What `draw_seal` returned.
    """
    seal, place = _compute_seal(paths, drawn)
    with paths[0].open("r+b") as file:
        file.seek(place)
        file.write(seal.encode())


def require_sealed(paths: Sequence[Path], seal: str | None) -> None:
    """Refuse files that are not as they were when they were sealed.

    Args:
        paths: As for `seal_files`.
        seal: The seal in the metadata of the first one; None for files without one, such as those of earlier versions.
    Raises:
        ModelFileError: They have changed.
    """
    if seal and _compute_seal(paths, seal)[0] != seal:
        raise ModelFileError(
            f"{' or '.join(map(str, paths))}: has changed since it was written: its SHA-256 is not the one inside",
            f"Copy or fetch it again. If it was changed on purpose, remove {SEAL_KEY} from its metadata.",
        )


def find_damaged_member(path: Path) -> str | None:
    """Return the name of a damaged member of a zip archive, by its checksums; None if there is none, or no archive.

    PyTorch writes state dicts, checkpoints and programs as such archives, and does not check them when it reads them.

    Args:
        path: The file.
    Raises:
        zipfile.BadZipFile: The archive cannot be read at all.
    """
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def _compute_seal(paths: Sequence[Path], written: str) -> tuple[str, int]:
    """Return the seal of files and its place in the first one, where `written` is now."""
    first, *others = map(_map_file, paths)
    place = first.find(written.encode())
    octets = memoryview(first)
    digest = hashlib.sha256()
    for part in (octets[:place], b"0" * len(written), octets[place + len(written) :]):
        digest.update(part)
    for other in others:
        digest.update(other)
    return digest.hexdigest(), place


def _map_file(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
