"""A folder for results that people chose: made before anything slow, and written by one process at a time."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from atrous.core.errors import UsageError
from atrous.core.files import remove_temporaries
from atrous.core.system_errors import describe_write_error

LOCK_NAME = ".lock"
"""Name of the file in a held folder; it has the number of the process that holds the folder."""
ENDING_S = 10.0
"""Seconds to wait for a lock whose process has died: its worker processes hold the lock until they have noticed."""

_BUSY_ERRNOS = (errno.EAGAIN, errno.EACCES)


@contextmanager
def open_folder(folder: Path) -> Iterator[None]:
    """Make a folder with its parents and check that files can be written there; remove at the end what stayed empty.

    Args:
        folder: The folder; it may exist.
    Raises:
        UsageError: There cannot be a folder of this name.
        MachineError: There is no permission to write there, or no space.
    """
    made: list[Path] = []
    try:
        made = _make(folder)
        with _explaining(folder), tempfile.TemporaryFile(dir=folder):
            pass
        yield
    finally:
        _remove_empty(made)


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Make a folder as `open_folder` does, and keep other processes and threads from holding it meanwhile.

    Temporary files of a process that was killed there are removed. The lock ends with the process, however that ends.
    On file systems without locks no one is kept out.

    Args:
        folder: The folder; it may exist.
    Raises:
        UsageError: Another process holds it, or there cannot be a folder of this name.
        MachineError: There is no permission to write there, or no space.
    """
    made: list[Path] = []
    try:
        made = _make(folder)
        handle = _lock(folder)
        try:
            remove_temporaries(folder)
            yield
        finally:
            with suppress(OSError):  # removed before it is released, so that no one locks a file without a name
                (folder / LOCK_NAME).unlink()
            os.close(handle)
    finally:
        _remove_empty(made)


def require_folder(folder: Path) -> None:
    """Refuse a folder in which no file can be written, before the work whose results it is for; nothing is left there.

    Raises:
        UsageError: There cannot be a folder of this name.
        MachineError: There is no permission to write there, or no space.
    """
    with open_folder(folder):
        pass


def require_place(file: Path) -> None:
    """Refuse a path at which no file can be written, before the work whose result it is for; nothing is left there.

    Args:
        file: The file; it may exist.
    Raises:
        UsageError: A folder has its name, or there cannot be a file of this name.
        MachineError: There is no permission to write there, or no space.
    """
    with _explaining(file), suppress(FileNotFoundError):
        file.lstat()  # fails for a name that no file can have
    if file.is_dir():
        raise UsageError(f"{file} is a folder", "Give the name of a file.")
    require_folder(file.parent)


def require_replaceable(files: Iterable[Path], *, is_own: bool, overwrite: bool | None) -> None:
    """Refuse to replace files that atrous did not write.

    Args:
        files: Files that will be written.
        is_own: Whether those that exist were written by atrous for the same purpose.
        overwrite: Whether the user wants them replaced, whatever they are; None: that cannot be asked for.
    Raises:
        UsageError: One of them exists, and it is not known that atrous wrote it.
    """
    for file in files:
        if (file.exists() or file.is_symlink()) and not (is_own or overwrite):
            way = "move it away" if overwrite is None else "replace it: `overwrite=True`"
            raise UsageError(f"{file} exists, and would be lost", f"Choose another name, or {way}.")


@contextmanager
def hold_numbered_folder(stem: Path) -> Iterator[Path]:
    """Hold the first folder of `stem`-1, `stem`-2, ... that does not exist; two processes never get the same one.

    Args:
        stem: The folder's path without the number.
    Raises:
        UsageError: There cannot be a folder of this name.
        MachineError: There is no permission to write there, or no space.
    """
    made = _make(stem.parent)
    number = 1
    while not _claim(folder := stem.with_name(f"{stem.name}-{number}")):
        number += 1
    try:
        with hold_folder(folder):
            yield folder
    finally:
        _remove_empty([folder, *made])


def _claim(folder: Path) -> bool:
    """Make a folder, and return whether it was made here."""
    with _explaining(folder):
        try:
            folder.mkdir()
        except FileExistsError:
            return False
    return True


def _make(folder: Path) -> list[Path]:
    """Make a folder with its parents and return those that did not exist, the innermost first."""
    with _explaining(folder):
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # not empty
            folder.rmdir()


def _lock(folder: Path) -> int:
    """Lock a file in the folder and return its handle; closing it releases the lock."""
    path = folder / LOCK_NAME
    deadline = time.monotonic() + ENDING_S
    while True:
        with _explaining(folder):
            try:
                handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
            except FileNotFoundError:  # a process that held the folder has just removed it
                folder.mkdir(parents=True, exist_ok=True)
                continue
        try:
            is_locked = _try_lock(handle)
            if is_locked and os.fstat(handle).st_nlink:  # else its former holder has just removed it
                os.ftruncate(handle, 0)
                os.write(handle, str(os.getpid()).encode())
                return handle
            holder = b"" if is_locked else os.pread(handle, 20, 0)
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        if not is_locked and (_is_alive(holder) or time.monotonic() > deadline):
            raise UsageError(
                f"{folder}: {_describe(holder)} is writing there",
                "Wait until it has ended, or choose another folder.",
            )
        time.sleep(0.02)


def _try_lock(handle: int) -> bool:
    """Lock an open file, and return whether it was free; also True where there are no locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _BUSY_ERRNOS
    return True


def _is_alive(holder: bytes) -> bool:
    if not holder.isdigit():
        return False
    try:
        os.kill(int(holder), 0)
    except ProcessLookupError:
        return False
    except OSError:  # it belongs to another user
        return True
    return True


def _describe(holder: bytes) -> str:
    if not holder.isdigit():
        return "another process"
    return "this process" if int(holder) == os.getpid() else f"process {int(holder)}"


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    """Say of an error of the operating system which path cannot be written, and why."""
    try:
        yield
    except OSError as error:
        raise describe_write_error(error, path) from error
    except ValueError as error:  # a name with a null byte
        raise UsageError(f"{str(path)!r}: {error}", "Choose another folder.") from error
