"""`atrous demo`: the whole tool on a built-in data set, in a few minutes and offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atrous.cli.inference_options import JsonOption, QuietOption


def run(
    out: Annotated[Path, typer.Option("--out", help="Run folder.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the training.")] = 0,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Train, score and predict on built-in data.

    Example: atrous demo --out runs/demo
    """
    from atrous.runs.folder import require_possible

    require_possible(out)
    from atrous.cli.console import open_display
    from atrous.cli.train import print_run
    from atrous.studies.demo import run_demo

    with open_display(quiet=quiet) as display:
        result = run_demo(out, progress=display.progress, on_message=display.on_message, seed=seed)
    return print_run(result, as_json=json)
