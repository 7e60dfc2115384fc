"""`atrous eval`: scores of one model or several."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atrous.cli.inference_options import (
    DataRootOption,
    JsonOption,
    ProcessesOption,
    QuietOption,
    take_inference_options,
)
from atrous.core.errors import UsageError
from atrous.core.launch import find_launch
from atrous.core.words import describe_count

if TYPE_CHECKING:
    from atrous.core.comparison import Comparison
    from atrous.core.records import Scores
from atrous.core.records import list_notes


@take_inference_options
def run(
    context: typer.Context,
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... [DATA]",
            help="A run alone is scored on its own validation data. With several arguments, the last is DATA.",
        ),
    ],
    *,
    inference: dict[str, Any],
    crf_search: Annotated[
        bool, typer.Option("--crf-search", help="Compare settings of DenseCRF on some of the images instead.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Write scores.json, images.csv, plots and the worst images; of two models or more comparison.json and "
            "the images that differ most.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files in --out that eval did not write.")
    ] = False,
    data_root: DataRootOption = None,
    processes: ProcessesOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Score models on a data set with intervals, and compare them.

    Example: atrous eval runs/demo --output-stride 8 --scales 0.75,1,1.25 --flip
    """
    from atrous.cli.console import open_display, show_loading
    from atrous.cli.launch import is_first, must_launch, run_processes

    models, data = (names, None) if len(names) == 1 else (names[:-1], names[-1])
    _require_places(models, data, data_root)
    must_start = must_launch(processes)
    if crf_search and (must_start or find_launch() is not None):
        raise UsageError("one process alone compares settings of DenseCRF", "Start it without --processes.")
    if must_start:
        return run_processes(context.obj, processes or 1)
    if crf_search:
        return _search(models, data, inference | {"data_root": data_root}, quiet=quiet, as_json=json)
    found: dict[str, Scores] = {}
    comparisons: list[Comparison] = []
    written: Path | None = None
    try:
        with open_display(quiet=quiet or not is_first()) as display:
            with show_loading(display):
                from atrous.runs.comparison import compare_together
                from atrous.runs.evaluation import evaluate_together
                from atrous.training.world import open_world

            options: dict[str, Any] = {"out": out, "overwrite": overwrite, "data_root": data_root, **inference}
            options |= {"progress": display.progress, "on_message": display.on_message}
            with open_world() as world:
                if data is None or len(models) == 1:
                    evaluate_together(
                        world, models[0], data, **options, on_scores=lambda _, scores: found.update({models[0]: scores})
                    )
                else:
                    options |= {"on_scores": found.__setitem__, "on_result": comparisons.append}
                    compare_together(world, models, data, **options)
            written = out
    except BaseException as error:
        if len(models) > 1:
            error.add_note(f"{len(found)} of {describe_count(len(models), 'model')} scored")
        raise
    finally:  # also what was scored before an interruption or an error, such as that of a full disk
        if found and is_first():
            _print_scores(found, comparisons, num_models=len(models), as_json=json)
            if written is not None and not json:
                from atrous.display.console import build_console

                build_console().print(str(written), markup=False)
    return 0


def _print_scores(found: dict[str, Scores], comparisons: list[Comparison], *, num_models: int, as_json: bool) -> None:
    from atrous.cli.console import print_json
    from atrous.display.console import build_console
    from atrous.display.tables import print_comparison, print_scores

    if as_json:
        if comparisons:
            print_json(comparisons[0].to_json())
            return
        rows = [{"model": model, **scores.to_json()} for model, scores in found.items()]
        print_json(rows[0] if num_models == 1 else {"models": rows})
        return
    console = build_console()
    for model, scores in found.items():
        for each in (scores, scores.test):
            if each is not None:
                print_scores(console, each, title=f"{model} on {each.data}")
    for comparison in comparisons:
        print_comparison(console, comparison)


def _require_places(models: list[str], data: str | None, data_root: str | None) -> None:
    """Refuse models and data that do not exist, before anything heavy is imported."""
    from atrous.core.data_source import require_source
    from atrous.networks.model_source import find_model

    for model in models:
        find_model(model)
    if data is None:
        return
    try:
        require_source(data, data_root)
    except UsageError as error:  # a run or a model
        hint = f"Add DATA behind it, or score one model at a time: atrous eval {shlex.quote(data)}"
        raise UsageError(f"the last word is DATA, and {error.message.removesuffix(', not data')}", hint) from error


def _search(models: list[str], data: str | None, options: dict[str, Any], *, quiet: bool, as_json: bool) -> int:
    from atrous.cli.console import open_display, print_json, show_loading
    from atrous.display.console import build_console
    from atrous.display.tables import build_table

    if len(models) > 1 or options.pop("crf", None):
        raise UsageError(
            "--crf-search is for one model, and chooses DenseCRF's options itself",
            "Give one model, without --crf and --crf-set.",
        )
    with open_display(quiet=quiet) as display:
        with show_loading(display):
            from atrous import api

        trials = api.search_crf(models[0], data, **options, progress=display.progress, on_message=display.on_message)
    rows = [{"crf": trial.options, "miou": trial.miou} for trial in trials]
    if as_json:
        print_json({"model": models[0], "trials": rows, "notes": list_notes(display.notes)})
        return 0
    table = build_table("options of DenseCRF", "mIoU")
    for trial in trials:
        words = (
            "none" if trial.options is None else " ".join(f"{key}={value:g}" for key, value in trial.options.items())
        )
        table.add_row(words, f"{trial.miou:.4f}")
    console = build_console()
    console.print(table)
    best = trials[0].options
    console.print(
        "no setting is better than no field"
        if best is None
        else "use it: " + " ".join(f"--crf-set {key}={value:g}" for key, value in best.items())
    )
    console.print("Chosen on these images: score it on others before you trust the gain.")
    return 0
