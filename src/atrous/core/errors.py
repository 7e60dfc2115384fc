"""Every error that a user may meet, in one tree.

AtrousError            1   done, but something was skipped or found; the base of all
├── UsageError         2   a command or a call that makes no sense as given
├── ConfigError        2   a configuration value that is unknown, mistyped or impossible
├── DataError          3   an image, a mask or a folder of them
├── ModelFileError     4   a file of weights or a run folder
└── MachineError       5   memory, disk, device, a missing package

The number is the exit code of the command line. An interrupted command ends with 130.
"""

from __future__ import annotations

INTERRUPTED_EXIT_CODE = 130


class AtrousError(Exception):
    """Something that the user can mend: what is wrong, and what to do about it.

    Args:
        message: What is wrong and where: a dotted key, a file with its line, or a file with its value.
        hint: What to do; empty where the message says it all.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[type[AtrousError], tuple[str, str]]:
        """Travel whole from a data worker to the main process."""
        return type(self), (self.message, self.hint)


class UsageError(AtrousError, ValueError):
    """A command or a call that makes no sense as given."""

    exit_code = 2


class ConfigError(AtrousError, ValueError):
    """A configuration value that is unknown, of the wrong type, or impossible beside another."""

    exit_code = 2


class DataError(AtrousError, ValueError):
    """An image, a mask or a folder of them that cannot be used as it is."""

    exit_code = 3


class ModelFileError(AtrousError, ValueError):
    """A file of weights or a run folder that cannot be read or does not fit."""

    exit_code = 4


class MachineError(AtrousError, RuntimeError):
    """What this machine lacks: memory, disk, a device, a package."""

    exit_code = 5
