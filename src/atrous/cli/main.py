"""Entry point of the command line: the table of commands.

Neither this file nor the top level of any command imports torch, so that `--help` answers at once.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from atrous import __version__
from atrous.cli.ending import run_to_the_end
from atrous.core.paths import EMPTY_HINT, refuse_empty
from atrous.core.registry import Registry

COMMANDS = Registry(
    "command",
    (
        ("demo", "atrous.cli.demo:run"),
        ("check", "atrous.cli.check:run"),
        ("train", "atrous.cli.train:run"),
        ("eval", "atrous.cli.eval:run"),
        ("predict", "atrous.cli.predict:run"),
        ("convert", "atrous.cli.convert:run"),
        ("prepare", "atrous.cli.prepare:run"),
        ("export", "atrous.cli.export:run"),
        ("reproduce", "atrous.cli.reproduce:run"),
        ("bench", "atrous.cli.bench:run"),
        ("models", "atrous.cli.models:run"),
        ("datasets", "atrous.cli.datasets:run"),
        ("config", "atrous.cli.config:run"),
        ("doctor", "atrous.cli.doctor:run"),
    ),
)

# Parameters of any command that can be a path. The types of their commands do not tell: data and models are text. So is
# `model`, but for that of `train`, which names a network.
_PATHS = (
    *("data", "name", "names", "inputs", "models", "source", "sources", "images"),
    *("out", "resume", "extend", "data_root", "calibrate", "weights", "recipe"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        arguments: The words after `atrous`. Default: those of this process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    words = list(given)
    debug = _take_debug(words)
    command = next((word for word in words if word in COMMANDS), "")

    def work() -> object:
        try:
            return build_app()(args=words or ["--help"], prog_name="atrous", standalone_mode=False, obj=given)
        except _CommandInterrupted as error:
            raise error.interruption from None

    return run_to_the_end(work, command=command, debug=debug)


def build_app() -> typer.Typer:
    """Build the command line from the table of commands."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.callback()(_describe_program)
    for name in COMMANDS:
        app.command(name, cls=_Command)(_pass_interruption(COMMANDS.load(name)))
    return app


class _Command(TyperCommand):
    """A command that refuses empty words: as a path one would be the current folder, as an unset variable gives it."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # a class of its own in some versions of typer
        if ctx.resilient_parsing:  # a shell completes a word
            return super().parse_args(ctx, args)
        words, _, _ = self.make_parser(ctx).parse_args(args=list(args))  # before an empty word becomes Path(".")
        for parameter in self.params:
            name = parameter.opts[-1] if parameter.param_type_name == "option" else "an argument"
            is_path = parameter.name in _PATHS or (parameter.name == "model" and ctx.info_name != "train")
            hint = EMPTY_HINT if is_path else "Give a value, or leave it out."
            refuse_empty(words.get(parameter.name or ""), name, hint)
        return super().parse_args(ctx, args)


class _CommandInterrupted(Exception):  # noqa: N818  not an error
    """Ctrl-C in a command, on its way through typer, which would end with an exit code and without the notes."""

    def __init__(self, interruption: KeyboardInterrupt) -> None:
        super().__init__()
        self.interruption = interruption


def _pass_interruption(command: Callable[..., int]) -> Callable[..., int]:
    @functools.wraps(command)
    def run(**words: Any) -> int:
        try:
            return command(**words)
        except KeyboardInterrupt as interruption:
            raise _CommandInterrupted(interruption) from None

    return run


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
