"""Every error that a user may meet, as one tree, with the exit code of the command line for each.

AtrousError            70  base class; only the kinds below are raised
├── UsageError          2   a command or a call whose arguments make no sense
├── ConfigError         2   a setting that is unknown, mistyped or impossible
├── DataError           3   an image, a mask or a folder of them
│   └── OutputError     3   an image for which the network's output is not finite
├── ModelFileError      4   a model file, a checkpoint or a run folder
├── MachineError        5   memory, disk space, open files, a device, a missing package
│   └── MemoryShort     5   a forward pass for which the memory did not suffice
├── TrainingDiverged    6   a loss or a gradient that is no longer finite
└── OtherProcessFailed  7   another process of the same command, which reports why

Other exit codes: 0 done; 1 done, but something was skipped; 70 an unexpected error; 130 interrupted by a signal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from atrous.core.findings import Finding

SKIPPED_EXIT_CODE = 1
UNEXPECTED_EXIT_CODE = 70
INTERRUPTED_EXIT_CODE = 130


class AtrousError(Exception):
    """Base of all errors: what is wrong, and what to do about it.

    Args:
        message: What is wrong and where: a dotted key, a file with its line, or a file with its value.
        hint: What to do; empty if the message says it all.
    """

    exit_code = UNEXPECTED_EXIT_CODE

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[type[AtrousError], tuple[str, str]]:
        """Keep message and hint when the error is pickled, as it is on its way from a data worker."""
        return type(self), (self.message, self.hint)


@contextmanager
def note_on_stop(describe: Callable[[BaseException], str]) -> Iterator[None]:
    """Add a sentence to whatever stops the block: an error or Ctrl-C. The command line prints it below the error.

    Args:
        describe: Receives what stopped the block; returns what was done and how to continue, or an empty text.
    """
    try:
        yield
    except BaseException as error:
        if text := describe(error):
            error.add_note(text)
        raise


class UsageError(AtrousError, ValueError):
    """A command or a call whose arguments make no sense."""

    exit_code = 2


class ConfigError(AtrousError, ValueError):
    """A setting that is unknown, of the wrong type, or impossible in combination with another."""

    exit_code = 2


class DataError(AtrousError, ValueError):
    """An image, a mask or a folder of them that cannot be used as it is.

    Args:
        message: See `AtrousError`.
        hint: See `AtrousError`.
        code: What a check of data calls it, such as "lossy-mask"; empty if it has no name of its own.
        findings: What a check of data reports in its place; empty if the message is all there is.
    """

    exit_code = 3

    def __init__(self, message: str, hint: str = "", code: str = "", findings: Sequence[Finding] = ()) -> None:
        super().__init__(message, hint)
        self.code = code
        self.findings = tuple(findings)


class OutputError(DataError):
    """An image for which the network's output is not finite, so that it has no labels."""


class ModelFileError(AtrousError, ValueError):
    """A model file, a checkpoint or a run folder that cannot be read or does not fit."""

    exit_code = 4


class MachineError(AtrousError, RuntimeError):
    """Something that this machine lacks: memory, disk space, open files, a device, a package."""

    exit_code = 5


class MemoryShort(MachineError):  # noqa: N818  a condition, named as StopIteration is
    """A forward pass for which the memory did not suffice; a smaller one may fit."""


class TrainingDiverged(AtrousError, RuntimeError):  # noqa: N818  a condition, named as StopIteration is
    """A training whose loss or gradient is no longer finite."""

    exit_code = 6


class OtherProcessFailed(AtrousError, RuntimeError):  # noqa: N818  a condition, named as StopIteration is
    """Another process of the same command failed, and reports why: the command line prints nothing for this one."""

    exit_code = 7
