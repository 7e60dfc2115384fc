"""Atomic writes, JSON and hashes. Whatever keeps a file from being written is one kind of error, with its path."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import secrets
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from atrous.core.errors import AtrousError
from atrous.core.system_errors import describe_shortage, describe_write_error, is_write_error

Stamp = list[int]
"""Size of a file in bytes, and the times in ns of its last change and of its last change of status. The last one moves
also where a program that replaces the file sets the other time back, as copying and unpacking do."""

PROBE_BYTES = 2**20
"""What is written to a disk after a library has failed to write there, to learn why."""
_TEMPORARY = re.compile(r"\.part-[0-9a-f]{8}(\..*)?")
"""Names of temporary files. They do not hold the name of the file: with it, a long one would be too long."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that replaces `path` if the block succeeds, and is removed if it fails.

    Readers see the old file or the new one, never a part of one, even after a power cut. The file gets the permissions
    of any new file: the kernel applies the umask, which is never changed here, since it belongs to all threads.

    Args:
        path: Final path of the file; missing parent folders are made.
    Raises:
        MachineError: The disk is full, read-only or damaged, or the user may not write there.
        UsageError: No file can have this path.
    """
    with _explain_failure(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary, mode = _create_beside(path)
    try:
        with _explain_failure(path, temporary):
            yield temporary
            if stat.S_IMODE(temporary.stat().st_mode) != mode:  # some writers put a file of their own in its place
                temporary.chmod(mode)
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def _explain_failure(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Turn what the disk refuses into an error that names the final path.

    Args:
        path: The final path.
        temporary: The file that is being written. Libraries written in C++ and Rust report a full disk with errors of
            their own, which may blame the content: whether the disk takes more is tried.
    """
    try:
        yield
    except AtrousError as error:
        if temporary is not None:  # such as a file that could not be read back
            error.message = error.message.replace(str(temporary), str(path)).replace(temporary.name, path.name)
            if describe_shortage(error) is None:
                _require_space_for(path, temporary, error)
        raise
    except OSError as error:
        is_own = error.filename is None or str(error.filename) in (str(temporary), str(path))
        if temporary is not None and not (is_own and is_write_error(error)):
            _require_space_for(path, temporary, error)
            raise  # such as a download that broke off
        raise describe_write_error(error, path) from error
    except Exception as error:
        shortage = describe_shortage(error, path)
        if shortage is not None:
            raise shortage from error
        _require_space_for(path, temporary, error)
        raise


def _require_space_for(path: Path, temporary: Path | None, error: Exception) -> None:
    """Raise what is wrong with the disk of a temporary file, if it takes no more bytes, as the cause of an error."""
    if temporary is not None:
        try:
            require_space(temporary, path)
        except AtrousError as reason:
            raise reason from error


def require_space(file: Path, path: Path | None = None, *, num_bytes: int = 0) -> None:
    """Append bytes to a file that a library could not write, to learn whether the disk takes more.

    Args:
        file: What was being written; it is of no use any more.
        path: The file that the message names. Default: `file`.
        num_bytes: Bytes that the library may have removed again after it failed.
    Raises:
        MachineError: The disk takes no more.
        UsageError: No file can have this path.
    """
    try:
        with file.open("ab") as stream:
            stream.write(bytes(PROBE_BYTES + num_bytes))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as reason:
        raise describe_write_error(reason, path or file) from reason


def _create_beside(path: Path) -> tuple[Path, int]:
    """Create an empty file beside `path` and return it with its permissions."""
    while True:
        temporary = path.with_name(f".part-{secrets.token_hex(4)}{path.suffix}")
        try:
            handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            continue
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        os.close(handle)
        return temporary, mode


def remove_temporaries(folder: Path) -> None:
    """Remove the temporary files of a process that was killed while it wrote into a folder.

    Args:
        folder: A folder that no other process writes into now; its sub-folders are left as they are.
    """
    with suppress(OSError):
        for path in folder.iterdir():
            if _TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)


class _DeferringFile(io.RawIOBase):
    """A file for `open_deferring`: keeps the first error and drops what is written after it."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self.error: OSError | None = None
        self._file = file

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def write(self, data: Any, /) -> int:
        view = memoryview(data).cast("B")
        if self.error is None:
            try:
                self._file.write(view)
            except OSError as error:
                self.error = error
        return len(view)


@contextmanager
def open_deferring(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write, for libraries that cannot take a write that fails.

    An error of the disk is raised at the end of the block. PyTorch's writers would report it with words of their own,
    or end the process.

    Args:
        path: The file.
    Raises:
        OSError: The first write that failed.
    """
    with path.open("wb") as file:
        deferring = _DeferringFile(file)
        try:
            yield cast(BinaryIO, deferring)
        finally:
            if deferring.error is not None:
                raise deferring.error


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
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names that are no text


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


def read_stamp(path: Path, *, follow_links: bool = True) -> Stamp | None:
    """Return what stands for the content of a file: as long as it is the same, the file has not changed.

    Args:
        path: The file.
        follow_links: Whether a link is the file that it leads to.
    Returns: None if there is no such file, or it cannot be looked at.
    """
    try:
        status = path.stat(follow_symlinks=follow_links)
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


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
