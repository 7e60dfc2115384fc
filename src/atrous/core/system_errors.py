"""Errors of the machine as messages: no memory, a full disk, no permission, too many open files.

Libraries report these in many ways: by an errno, by an exception of their own, or by text alone. A file is called
damaged only after `describe_shortage` has found that the machine is not the reason.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from atrous.core.errors import AtrousError, MachineError, UsageError

_MEMORY_WORDS = (
    "out of memory",
    "not enough memory",
    "insufficient memory",
    "allocate memory",
    "bad allocation",
    "bad_alloc",
    "alloc_failed",
    "defaultcpuallocator",
    "could not create a primitive",
    "could not create a memory",
    "failed to map segment",
    "memoryerror",
)
"""What PyTorch, oneDNN, CUDA, OpenCV, ONNX Runtime, OpenVINO, Pillow and the loader of libraries say, in lower case."""

_THREAD_WORDS = ("can't start new thread", "resource temporarily unavailable")
"""What Python and the C++ library say when the system starts no more threads, in lower case."""

_MUCH_MIB = 64
"""With so much free space a disk is not full of bytes: it may have no more files (inodes) to give."""

_RUST = re.compile(r"\(os error (\d+)\)")

_SPACE = "Free some space, or write to another disk with `out`."
_RIGHTS = "Write to a folder where you have permission, with `out`."
_FILES = "Raise the limit with `ulimit -n 4096`, or use fewer `workers`."
_PATH = "Choose another `out`."

_SHORTAGES = {
    errno.ENOSPC: ("no space left on the disk", _SPACE),
    errno.EDQUOT: ("the disk quota is used up", _SPACE),
    errno.EFBIG: (
        "larger than a file may be here",
        "Raise the limit (`ulimit -f`), or write to another disk with `out`.",
    ),
    errno.EMFILE: ("too many open files", _FILES),
    errno.ENFILE: ("too many open files", _FILES),
}
"""What the machine lacks, by errno; the file itself is fine."""
_REFUSALS = {
    errno.EACCES: ("no permission to write", _RIGHTS),
    errno.EPERM: ("no permission to write", _RIGHTS),
    errno.EROFS: ("the disk is read-only", _RIGHTS),
    errno.EIO: ("the disk reports an error", "Check the disk, or write to another one with `out`."),
}
"""Why something cannot be written, by errno."""
_WRONG_PATHS = {
    errno.EEXIST: ("a file of this name exists", _PATH),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", _PATH),
    errno.EISDIR: ("is a folder, not a file", _PATH),
    errno.ENOENT: ("the folder does not exist and cannot be made", _PATH),
    errno.ENAMETOOLONG: ("the name is too long", _PATH),
    errno.ELOOP: ("its links lead in a circle", _PATH),
    errno.EINVAL: ("the name is not possible here", _PATH),
}
"""What is wrong with the path of an output, by errno."""


def describe_shortage(error: BaseException, path: Path | str | None = None) -> MachineError | None:
    """Return what the machine lacked if an error says that it lacked something: memory, disk space or open files.

    Args:
        error: Any error; its causes are searched too.
        path: The file concerned, for the message. Default: the one that the error names.
    Returns:
        None if the machine is not known to be the reason.
    """
    for cause in _iter_causes(error):
        if isinstance(cause, MachineError):
            return cause
        number = _read_number(cause)
        if is_out_of_memory(cause):
            return MachineError(
                f"{_name(cause, path)}out of memory", "Close other programs, or work on less at a time."
            )
        if _is_out_of_threads(cause):
            return MachineError(
                f"{_name(cause, path)}no more threads can be started here",
                "Close other programs, or raise the limits of processes and memory (`ulimit -u`, `ulimit -v`).",
            )
        if number in _SHORTAGES:
            message, hint = _SHORTAGES[number]
            free = _describe_free(path if isinstance(path, Path) else getattr(cause, "filename", None))
            return MachineError(f"{_name(cause, path)}{message}{free if number == errno.ENOSPC else ''}", hint)
    return None


def raise_shortage(error: BaseException, path: Path | str | None = None) -> None:
    """Raise what the machine lacked, if an error says that it lacked something.

    Args:
        error: Any error.
        path: The file concerned, for the message. Default: the one that the error names.
    Raises:
        MachineError: The machine is the reason, and not the file.
    """
    shortage = describe_shortage(error, path)
    if shortage is not None:
        raise shortage from error


def describe_write_error(error: OSError, path: Path | str | None = None) -> AtrousError:
    """Return why something could not be written.

    Args:
        error: What the operating system reported.
        path: The file that was to be written. Default: the one that the error names.
    """
    shortage = describe_shortage(error, path)
    if shortage is not None:
        return shortage
    kind = UsageError if error.errno in _WRONG_PATHS else MachineError
    unknown = error.strerror or str(error) or type(error).__name__, "Check the disk and the path."
    message, hint = (_REFUSALS | _WRONG_PATHS).get(error.errno or 0, unknown)
    return kind(f"{_name(error, path)}{message}", hint)


def describe_reason(error: BaseException) -> str:
    """Return in one line why something failed, for a message that has named the file: without its path.

    Args:
        error: An error of any library.
    Returns: The first line that says something; the type of an error without a message.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = [line.strip() for line in str(error).splitlines()]
    places = "Exception from "  # how OpenVINO begins: with lines of its source
    return next((line for line in lines if line and not line.startswith(places)), type(error).__name__)


def is_write_error(error: OSError) -> bool:
    """Return whether the number of an error is one with which the operating system refuses to write."""
    return error.errno in _SHORTAGES | _REFUSALS | _WRONG_PATHS


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on any device."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if not isinstance(error, Exception) or isinstance(error, (AtrousError, ValueError, LookupError)):
        return False
    text = str(error).lower()
    return any(words in text for words in _MEMORY_WORDS)


def _is_out_of_threads(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _THREAD_WORDS)


def _read_number(error: BaseException) -> int:
    """Return the number of an error of the operating system, also of one that Rust has turned into text; or 0."""
    if isinstance(error, OSError):
        return error.errno or 0
    written = _RUST.search(str(error))
    return int(written[1]) if written else 0


def _name(error: BaseException, path: Path | str | None) -> str:
    name = path if path is not None else getattr(error, "filename", None)
    return "" if name is None else f"{name}: "


def _describe_free(path: Path | str | None) -> str:
    """Return how much is free on the disk of a path, and what else may be used up if that is much."""
    if path is None:
        return ""
    place = Path(path).absolute()
    try:
        free_mib = shutil.disk_usage(next(each for each in (place, *place.parents) if each.exists())).free // 2**20
    except OSError:  # the disk itself may be gone
        return ""
    return f" ({free_mib:,} MiB free{'' if free_mib < _MUCH_MIB else ': is the number of files or a quota used up?'})"


def _iter_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
