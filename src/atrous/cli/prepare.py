"""`atrous prepare`: the official data sets, from their archives to the folders that `atrous train` reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atrous.cli.inference_options import JsonOption, QuietOption
from atrous.core.errors import UsageError
from atrous.data import PREPARED


def run(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"{', '.join(PREPARED)}.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write; one that is not complete is continued.")],
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="SOURCE...", help="Archives (.tar, .tgz, .zip) and folders with the data."),
    ] = None,
    download: Annotated[
        bool,
        typer.Option("--download", help="Download the archives to the folder OUT-archives, instead of SOURCE."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Verify everything and write nothing.")] = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Bring the archives of an official data set into a folder.

    The other commands read that folder. Data whose lists or numbers are not the official ones are refused, and nothing
    is written.

    Example: atrous prepare voc VOCtrainval_11-May-2012.tar benchmark.tgz --out data/voc

    Example: atrous prepare voc --download --out data/voc
    """
    from atrous.cli.console import open_display, print_json
    from atrous.data.prepare.fetch import fetch_archives
    from atrous.data.prepare.preparation import prepare_dataset
    from atrous.display.console import build_console

    layout = PREPARED.load(name)
    if download and (sources or dry_run):
        raise UsageError("--download is for a preparation without SOURCE and --dry-run", "Leave out one of them.")
    with open_display(quiet=quiet) as display:
        if download:
            sources = fetch_archives(layout, out.with_name(f"{out.name}-archives"), display.progress)
        result = prepare_dataset(name, layout, sources or (), out, dry_run=dry_run, progress=display.progress)
    if json:
        print_json(result.to_json())
    else:
        build_console().print(f"{result.describe()}\n{'nothing written' if dry_run else f'atrous check {name}={out}'}")
    return 0
