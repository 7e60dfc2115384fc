"""Entry point of the command line: the table of commands, and how errors are shown.

Neither this file nor the top level of any command imports torch, so that `--help` answers at once.
"""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from atrous import __version__
from atrous.core.errors import INTERRUPTED_EXIT_CODE, AtrousError, MachineError, UsageError
from atrous.core.registry import Registry

COMMANDS = Registry(
    "command",
    (
        ("demo", "atrous.cli.demo:run"),
        ("train", "atrous.cli.train:run"),
        ("eval", "atrous.cli.eval:run"),
        ("predict", "atrous.cli.predict:run"),
        ("export", "atrous.cli.export:run"),
        ("reproduce", "atrous.cli.reproduce:run"),
        ("bench", "atrous.cli.bench:run"),
        ("models", "atrous.cli.models:run"),
        ("datasets", "atrous.cli.datasets:run"),
        ("config", "atrous.cli.config:run"),
    ),
)


_SPACE_HINT = "Free some space, or write to another disk with --out."
_RIGHTS_HINT = "Write to a folder where you have permission, with --out."
_FILES_HINT = "Raise the limit with `ulimit -n 4096`, or use fewer --workers."
_SYSTEM_HINTS = {
    errno.ENOSPC: _SPACE_HINT,
    errno.EDQUOT: _SPACE_HINT,
    errno.EACCES: _RIGHTS_HINT,
    errno.EPERM: _RIGHTS_HINT,
    errno.EROFS: _RIGHTS_HINT,
    errno.EMFILE: _FILES_HINT,
    errno.ENFILE: _FILES_HINT,
}
"""What to do about the errors of the operating system that are the machine's, by errno."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        arguments: The words after `atrous`. Default: those of this process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = _take_debug(words)
    try:
        code = build_app()(args=words or ["--help"], prog_name="atrous", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED_EXIT_CODE
    except Exception as error:
        if debug:
            traceback.print_exception(error)
        known = _translate(error)
        _show_error(known.message, known.hint)
        return known.exit_code
    return code if isinstance(code, int) else 0


def build_app() -> typer.Typer:
    """Build the command line from the table of commands."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback()(_describe_program)
    for name in COMMANDS:
        app.command(name)(COMMANDS.load(name))
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


def _describe_program(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; works with every command.")
    ] = False,
) -> None:
    """Label every pixel of an image: train, score and use networks with atrous convolution.

    Example: atrous demo
    """


def _take_debug(arguments: list[str]) -> bool:
    """Remove --debug from the words and return whether it was there; it is allowed anywhere on the line."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--debug" not in options:
        return False
    arguments.remove("--debug")
    return True


def _translate(error: Exception) -> AtrousError:
    """Return any exception as an error with a message and an exit code."""
    if isinstance(error, AtrousError):
        return error
    if hasattr(error, "format_message"):  # click's errors; typer has moved their class between versions
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "atrous"
        return UsageError(error.format_message(), f"See `{command} --help`.")
    if _is_out_of_memory(error):
        return MachineError("out of memory", "Try a smaller --batch, --crop or --window, or another --device.")
    if isinstance(error, OSError) and error.errno in _SYSTEM_HINTS:
        return MachineError(f"{error.filename or 'a file'}: {error.strerror}", _SYSTEM_HINTS[error.errno])
    return AtrousError(f"{type(error).__name__}: {error}", "This is a bug in atrous; --debug shows the traceback.")


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if "torch" not in sys.modules:
        return False
    from atrous.networks.device import is_out_of_memory

    return is_out_of_memory(error)


def _show_error(message: str, hint: str) -> None:
    from atrous.display.console import build_console

    console = build_console(stderr=True)
    console.print(message, style="bold red")
    if hint:
        console.print(hint)
