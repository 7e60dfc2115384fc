"""The entry point: the table of commands, and what a person sees when something goes wrong.

Nothing here or at the top of a command's file imports torch, so that help is instant.
"""

from __future__ import annotations

import errno
import logging
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        arguments: The words after `atrous`; those of this process where left out.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = _take_debug(words)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(
        logging.WARNING
    )  # a run says its precision itself
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
    """Return the command line with every command of the table."""
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
    debug: Annotated[bool, typer.Option("--debug", help="Show the trace of an error; fits any command.")] = False,
) -> None:
    """Label every pixel of an image: train, score and use networks with atrous convolution.

    Example: atrous demo
    """


def _take_debug(words: list[str]) -> bool:
    """Remove --debug from wherever it stands, since no command does anything else for it."""
    options = words[: words.index("--")] if "--" in words else words
    if "--debug" not in options:
        return False
    words.remove("--debug")
    return True


def _translate(error: Exception) -> AtrousError:
    """Return an error that a person can act on."""
    if isinstance(error, AtrousError):
        return error
    if hasattr(error, "format_message"):  # click's errors, which typer has kept in several places over time
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "atrous"
        return UsageError(error.format_message(), f"See `{command} --help`.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        return MachineError(
            f"{error.filename or 'a file'}: {error.strerror}", "Free the space, or write elsewhere with --out."
        )
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return MachineError("out of memory", "Try a smaller --batch, --crop or --window, or another --device.")
    return AtrousError(f"{type(error).__name__}: {error}", "This was not expected; --debug shows the trace.")


def _show_error(message: str, hint: str) -> None:
    from atrous.display.console import build_console

    console = build_console(stderr=True)
    console.print(message, style="bold red")
    if hint:
        console.print(hint)
