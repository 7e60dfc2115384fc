"""`atrous reproduce`: the paper's tables and figures."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atrous.cli.inference_options import DataRootOption, JsonOption, QuietOption
from atrous.core.errors import INTERRUPTED_EXIT_CODE, UsageError
from atrous.core.registry import describe_choices
from atrous.core.words import describe_count
from atrous.studies import FIGURES, STUDIES

if TYPE_CHECKING:
    from atrous.studies.study import Base, Study

SKIPPED_EXIT_CODE = 1


def run(
    table: Annotated[
        str, typer.Argument(metavar="TABLE", help=f"{', '.join(STUDIES)}, or {FIGURES}.", show_default=False)
    ],
    data: Annotated[str | None, typer.Option("--data", help="A registered name or a folder. Default: shapes.")] = None,
    iterations: Annotated[
        int | None, typer.Option("--iterations", help="Optimiser steps per training. Default: 300.")
    ] = None,
    backbone: Annotated[str | None, typer.Option("--backbone", help="Such as resnet50. Default: lite0.")] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="imagenet, none, or a file. Default: imagenet.")
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds, such as 0,1,2; a verdict needs two.")] = "0",
    crop: Annotated[
        int | None, typer.Option("--crop", help="Side of the crop; the paper uses 513. Default: 257.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", help="Images per step; the paper uses 16. Default: 8.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print rows, cost and time; train nothing.")] = False,
    out: Annotated[Path, typer.Option("--out", help="Folder of all studies.")] = Path("runs/studies"),
    data_root: DataRootOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Reproduce one of the paper's tables or figures.

    Example: atrous reproduce table10 --iterations 500 --seeds 0,1,2
    """
    _require_names(table, data, data_root, backbone)
    from atrous.studies.study import Base, parse_seeds

    given: dict[str, Any] = {
        "data": data,
        "data_root": data_root,
        "backbone": backbone,
        "weights": weights,
        "iterations": iterations,
        "crop": crop,
        "batch": batch,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if table == FIGURES:
        useless = sorted({"--" + name.replace("_", "-") for name in given} - {"--backbone"})
        if useless or dry_run:
            raise UsageError(
                f"{', '.join(useless or ['--dry-run'])}: not used by figures, which need no training",
                "Remove the option.",
            )
        return _run_figures(backbone or Base().backbone, out, quiet=quiet, as_json=json)
    base = Base(**given)
    study = STUDIES.load(table)(base)
    if dry_run:
        return _print_plan(study, base, num_seeds=len(parse_seeds(seeds)), as_json=json)
    return _run_study(study, base, out, seeds=parse_seeds(seeds), quiet=quiet, as_json=json)


def _require_names(table: str, data: str | None, data_root: str | None, backbone: str | None) -> None:
    """Refuse names that do not exist, before anything heavy is imported."""
    from atrous.core.data_source import require_source
    from atrous.networks.names import split_name

    if table not in (*STUDIES, FIGURES):
        raise UsageError(f"unknown study {table!r}", describe_choices(table, [*STUDIES, FIGURES]))
    if data is not None:
        require_source(data, data_root)
    if backbone is not None:
        split_name(f"deeplabv3-{backbone}")


def _print_plan(study: Study, base: Base, *, num_seeds: int, as_json: bool) -> int:
    from atrous.cli.console import print_json
    from atrous.display.console import build_console
    from atrous.display.stages import describe_seconds
    from atrous.display.tables import build_table
    from atrous.studies.reproduction import estimate_seconds, plan_study

    planned = plan_study(study, base)
    estimate = estimate_seconds(planned, base, num_seeds=num_seeds)
    if as_json:
        rows = [
            {
                "label": entry.row.label,
                "not_possible": entry.reason,
                "training": entry.training,
                "step_gflops": entry.step_flops / 1e9,
            }
            for entry in planned
        ]
        print_json({"table": study.name, "rows": rows, "seeds": num_seeds, "estimated_s": estimate})
        return 0
    cheapest = min(entry.step_flops for entry in planned if not entry.reason)
    trainings = list(dict.fromkeys(entry.training for entry in planned if not entry.reason))
    grid = build_table("row", "training", "FLOPs of a step", title=f"{study.name}: {study.title}")
    for entry in planned:
        number = "-" if entry.reason else str(trainings.index(entry.training) + 1)
        grid.add_row(entry.row.label, number, "-" if entry.reason else f"{entry.step_flops / cheapest:.2f} x")
    console = build_console()
    console.print(grid)
    for entry in planned:
        if entry.reason:
            console.print(f"{entry.row.label}: {entry.reason}")
    console.print(f"protocol of the paper: {study.protocol}")
    for note in study.notes:
        console.print(f"note: {note}")
    console.print(
        f"{describe_count(len(trainings), 'training')} of {describe_count(base.iterations, 'step')}, "
        f"{describe_count(num_seeds, 'seed')}: about {describe_seconds(estimate)} "
        "without scoring, estimated from one timed step of each network on this machine"
    )
    return 0


def _run_study(study: Study, base: Base, out: Path, *, seeds: tuple[int, ...], quiet: bool, as_json: bool) -> int:
    from atrous.cli.console import open_display, print_json
    from atrous.display.console import build_console
    from atrous.studies.reproduction import run_study

    with open_display(quiet=quiet) as display:
        table = run_study(study, base, out, seeds=seeds, progress=display.progress, on_message=display.on_message)
    if as_json:
        print_json(table)
    else:
        _print_table(table)
        build_console().print(f"table: {out / study.name / 'table.md'}")
    if table["interrupted"]:
        command = shlex.join(["atrous", *sys.argv[1:]])
        build_console(stderr=True).print(f"interrupted; to continue, run the same command again: {command}")
        return INTERRUPTED_EXIT_CODE
    return SKIPPED_EXIT_CODE if any(row["not_possible"] for row in table["rows"]) else 0


def _print_table(table: dict[str, Any]) -> None:
    from atrous.display.console import build_console
    from atrous.display.tables import build_table
    from atrous.reports.studies import CLAIM_COLUMNS, COLUMNS, build_claim, build_row

    console = build_console()
    grid = build_table(*COLUMNS, title=f"{table['table']}: {table['title']}")
    for row in table["rows"]:
        grid.add_row(*build_row(row))
    console.print(grid)
    if table["claims"]:
        claims = build_table(*CLAIM_COLUMNS)
        for claim in table["claims"]:
            claims.add_row(*build_claim(claim))
        console.print(claims)
    for note in table["notes"]:
        console.print(f"note: {note}")


def _run_figures(backbone: str, out: Path, *, quiet: bool, as_json: bool) -> int:
    from atrous.cli.console import open_display, print_json
    from atrous.display.console import build_console
    from atrous.display.tables import build_table
    from atrous.reports.studies import FIELD_COLUMNS, build_field
    from atrous.studies.figures import run_figures

    with open_display(quiet=quiet) as display:
        figures = run_figures(backbone, out, progress=display.progress)
    if as_json:
        print_json(figures)
        return 0
    console = build_console()
    grid = build_table(*FIELD_COLUMNS, title=f"receptive fields of networks on {backbone}")
    for field in figures["fields"]:
        grid.add_row(*build_field(field))
    console.print(grid)
    for name, reason in figures["not_possible"].items():
        console.print(f"{name}: {reason}")
    console.print(f"figures: {out / FIGURES / 'figures.md'}")
    return 0
