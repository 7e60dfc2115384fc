"""How a command ends: a signal, an error or a stream that takes no more become two lines and an exit code.

A command adds to the error or the interruption what was done and how to continue, with `note_on_stop`; it is printed
below.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

import typer

from atrous.core.errors import INTERRUPTED_EXIT_CODE, AtrousError, MachineError, OtherProcessFailed, UsageError
from atrous.core.interruption import StopRequest, interrupt
from atrous.core.system_errors import describe_shortage, describe_write_error, is_out_of_memory

_MEMORY_HINTS = {
    "train": "Try a smaller --batch or --crop, fewer --workers, or another --device.",
    "demo": "Close other programs.",
    "reproduce": "Try a smaller --batch or --crop.",
    "bench": "Try smaller --sizes, or another --device.",
    "export": "Close other programs, or use a machine with more memory.",
    "eval": "Try a smaller --window, a larger --output-stride, or another --device.",
    "predict": "Try a smaller --window, a larger --output-stride, or another --device.",
}
"""What to do about memory, by command."""


def run_to_the_end(work: Callable[[], object], *, command: str = "", debug: bool = False) -> int:
    """Run a command and return its exit code, whatever ends it.

    Args:
        work: The command; what it returns is the exit code if it is a number.
        command: Its name, for hints.
        debug: Whether to show the traceback of an error, and what other packages print.
    """
    _replace_what_cannot_be_printed()
    try:
        return _end(work, command, debug=debug)
    finally:
        _flush(sys.stderr)  # a terminal that has closed, to which the last words could not be written


def _end(work: Callable[[], object], command: str, *, debug: bool) -> int:
    end: object
    try:
        with StopRequest(_say_and_interrupt, _end_at_once), _quiet_packages(debug=debug):
            end = work()
    except (KeyboardInterrupt, SystemExit, Exception) as error:
        end = error
    failure = _flush(sys.stdout)
    if failure is not None and not isinstance(end, BaseException):
        end = failure
    if isinstance(end, (BrokenPipeError, SystemExit)):  # the reader of a pipe has seen enough: typer ends for that
        return 0
    if isinstance(end, (KeyboardInterrupt, typer.Abort)):
        _show(
            "interrupted", *getattr(end, "__notes__", ("Nothing unfinished was kept: the same command starts again.",))
        )
        return INTERRUPTED_EXIT_CODE
    if isinstance(end, Exception):
        if debug:
            traceback.print_exception(end)
        known = translate(end, command)
        if isinstance(known, OtherProcessFailed):
            return known.exit_code
        _show(known.message, known.hint, *getattr(end, "__notes__", ()))
        return known.exit_code
    return end if isinstance(end, int) else 0


def translate(error: Exception, command: str = "") -> AtrousError:
    """Return any exception as an error with a message and an exit code.

    Args:
        error: What ended the command.
        command: Name of the command, for hints.
    """
    if is_out_of_memory(error) or _is_memory_message(error):
        hint = _MEMORY_HINTS.get(command, "Close other programs.")
        return MachineError(error.message if isinstance(error, MachineError) else "out of memory", hint)
    if isinstance(error, AtrousError):
        return error
    if hasattr(error, "format_message"):  # click's errors; typer has moved their class between versions
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "atrous"
        return UsageError(error.format_message(), f"See `{path} --help`.")
    if isinstance(error, OSError) and error.errno is not None:
        return describe_write_error(error, error.filename or "standard output")  # every file is written under its name
    shortage = describe_shortage(error)
    if shortage is not None:
        return shortage
    return AtrousError(f"{type(error).__name__}: {error}", "This is a bug in atrous; --debug shows the traceback.")


def _is_memory_message(error: Exception) -> bool:
    return isinstance(error, MachineError) and error.message.endswith("out of memory")


def _show(message: str, *lines: str) -> None:
    from atrous.cli.console import spell_options
    from atrous.display.console import build_console

    console = build_console(stderr=True)
    console.print(spell_options(message), style="bold red")
    for line in lines:
        if line:
            console.print(spell_options(line))


def _say_and_interrupt() -> None:
    _say("stopping, what is being written is finished first; another Ctrl-C ends now")
    interrupt()


def _end_at_once() -> None:
    _say("ended at once; what was finished is kept")
    os._exit(INTERRUPTED_EXIT_CODE)


def _say(text: str) -> None:
    """Print from the handler of a signal, which may have come in the middle of another print, or with the terminal."""
    with suppress(RuntimeError, OSError, ValueError, AttributeError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def _replace_what_cannot_be_printed() -> None:
    """Let standard output write escapes for characters that its encoding lacks, as standard error does."""
    with suppress(AttributeError, ValueError):  # closed, or replaced by an object without encoding
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _flush(stream: TextIO | None) -> OSError | None:
    """Write out what is buffered, while an error can still be reported; return the error.

    A stream that takes no more is led to nowhere, or the interpreter would fail to write it out at its end.
    """
    if stream is None or stream.closed:
        return None
    try:
        stream.flush()
    except OSError as error:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return error
    return None


@contextmanager
def _quiet_packages(*, debug: bool) -> Iterator[None]:
    """Keep warnings and log lines of other packages from the user, who cannot act on them."""
    if debug:
        yield
        return
    own, former = logging.getLogger("atrous"), logging.root.manager.disable
    own.manager = logging.Manager(logging.root)  # what this package says is not disabled with the rest
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(former)
        del own.manager
