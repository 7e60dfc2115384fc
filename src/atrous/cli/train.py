"""`atrous train`: from images and masks to a run folder."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atrous.cli.inference_options import DataRootOption, DeviceOption, JsonOption, QuietOption
from atrous.core.errors import INTERRUPTED_EXIT_CODE, UsageError
from atrous.core.records import list_notes

if TYPE_CHECKING:
    from atrous.api import Run
    from atrous.config.load import LoadedConfig


def run(
    context: typer.Context,
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA", help="A name (`shapes`), a name with its path (`voc=PATH`), a folder or an atrous.yaml."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="<family>-<backbone>, see `atrous models`.")] = None,
    epochs: Annotated[float | None, typer.Option("--epochs", help="Length in epochs. Default: 50.")] = None,
    iterations: Annotated[
        int | None, typer.Option("--iterations", help="Length in optimiser steps, instead of epochs.")
    ] = None,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", help="Length in minutes from start to report, instead of epochs.")
    ] = None,
    patience: Annotated[
        int | None, typer.Option("--patience", help="Stop after so many validations without a better mIoU.")
    ] = None,
    crop: Annotated[int | None, typer.Option("--crop", help="Side of the training crop in pixels.")] = None,
    batch: Annotated[
        str | None, typer.Option("--batch", help="Images per forward pass; auto: as memory allows, at most 16.")
    ] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Initial learning rate.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of order, augmentation and weights.")] = None,
    class_weights: Annotated[
        str | None, typer.Option("--class-weights", help="none, auto, or one number per class: 1,2.5,1.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option("--weights", help="imagenet, none, a run, a file, animals, or torchvision/<name>.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="A YAML file of settings, or the name of a built-in recipe.")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting, such as training.norm=frozen.")
    ] = None,
    resume: Annotated[Path | None, typer.Option("--resume", metavar="RUN", help="Continue an interrupted run.")] = None,
    extend: Annotated[
        Path | None,
        typer.Option("--extend", metavar="RUN", help="Train a run for longer: with the new --epochs of the whole."),
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Write 16 augmented images with masks to preview.png; do not train.")
    ] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="Learn two images by heart, to see if that works; do not train.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be done; do not train.")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder, such as runs/x.")] = None,
    data_root: DataRootOption = None,
    device: DeviceOption = None,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="Processes that train together and share each batch.")
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", help="Processes that read and augment images.")] = None,
    precision: Annotated[str | None, typer.Option("--precision", help="auto, fp32 or bf16.")] = None,
    logger: Annotated[
        list[str] | None, typer.Option("--logger", help="tensorboard, mlflow or wandb, in addition to the CSV.")
    ] = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Train a network on images and their masks.

    Example: atrous train camvid --model deeplabv3-resnet50 --epochs 50

    Example: atrous train photos/ --max-minutes 40 --set training.jitter=0.2

    Example: atrous train voc=/data/VOC2012 --recipe voc --workers 8

    Example: atrous train photos/ --probe --out runs/probe

    Example: atrous train --extend runs/photos --epochs 100
    """
    from atrous.cli.launch import must_launch, run_processes

    loaded = _load(
        {
            "data.source": data,
            "data.root": data_root,
            "model.name": model,
            "model.weights": weights,
            "training.epochs": epochs,
            "training.iterations": iterations,
            "training.max_minutes": max_minutes,
            "training.patience": patience,
            "training.crop": crop,
            "training.batch": int(batch) if batch is not None and batch.isdecimal() else batch,
            "training.lr": lr,
            "training.seed": seed,
            "training.class_weights": _parse_class_weights(class_weights),
            "training.precision": precision,
            "output.folder": out,
            "output.device": device,
            "output.workers": workers,
            "output.logger": logger or None,
        },
        assignments=assignments or [],
        recipe=recipe,
        resume=resume,
        extend=extend,
        dry_run=dry_run,
        preview=preview,
        probe=probe,
    )
    if probe:
        from atrous.cli.probe import probe_data

        return probe_data(loaded, quiet=quiet, as_json=json)
    if dry_run:
        return _print_plan(loaded, as_json=json)
    if preview:
        return _print_preview(loaded, as_json=json)
    if must_launch(processes):
        return run_processes(context.obj, processes or 1)
    return _carry_out(loaded, resume=resume, extend=extend, quiet=quiet, as_json=json)


def print_run(result: Run, *, as_json: bool) -> int:
    """Print the scores of a training and its folder; return the exit code.

    Args:
        result: The training.
        as_json: Whether to print one JSON object.
    """
    from atrous.cli.console import print_json
    from atrous.display.console import build_console
    from atrous.display.tables import print_scores

    messages = build_console(stderr=True)
    if as_json:
        scores = result.scores.to_json() if result.scores else {"miou": None}
        notes = list_notes((*result.notes, *(result.scores.notes if result.scores else ())))
        print_json({**scores, "notes": notes, "folder": str(result.folder), "report": str(result.report)})
    else:
        console = build_console()
        if result.scores:
            print_scores(console, result.scores, title=result.scores.data)
        console.print(f"report: {result.report}")
        console.print(f"run: {result.folder}")
    if result.interrupted:
        messages.print(f"interrupted; continue with: atrous train --resume {shlex.quote(str(result.folder))}")
        return INTERRUPTED_EXIT_CODE
    return 0


def _load(
    options: dict[str, Any],
    *,
    assignments: list[str],
    recipe: str | None,
    resume: Path | None,
    extend: Path | None,
    dry_run: bool,
    preview: bool,
    probe: bool,
) -> LoadedConfig:
    from atrous.cli.launch import is_first
    from atrous.config.load import load_config
    from atrous.config.stages import list_stages
    from atrous.core.data_source import require_source
    from atrous.core.output_folder import require_place
    from atrous.core.run_folder import RunFolder
    from atrous.runs.folder import find_continued, find_recipe, require_possible
    from atrous.training.names import require_names

    folder = options["output.folder"]
    continued = find_continued(resume, extend)
    if (dry_run, preview, probe).count(True) > 1:
        raise UsageError("`dry_run`, `preview` and `probe` each end before a training", "Give one of them.")
    if continued is not None:
        if dry_run or preview or probe:
            raise UsageError("a run that is continued has no dry run, preview or probe", "Leave out one of them.")
        recipe = str(find_recipe(continued, recipe, folder))
    loaded = load_config(recipe=recipe, options=options, assignments=assignments)
    if not loaded.config.data.source:
        where = "" if recipe is None else f", and {recipe} names none"
        raise UsageError(
            f"no data given{where}", "Name a folder, a data set of `atrous datasets`, or a --recipe that does."
        )
    if continued is None:  # before anything heavy is imported; the data of a run to resume have a message of their own
        require_source(loaded.config.data.source, loaded.config.data.root)
        if preview:
            require_place(RunFolder(Path(loaded.config.output.folder or "runs")).preview)
        elif folder is not None and not probe and is_first():  # the folder that the check makes is removed again
            require_possible(folder)
        for stage in list_stages(loaded.config):
            require_names(stage)
    return loaded


def _print_plan(loaded: LoadedConfig, *, as_json: bool) -> int:
    from atrous import api
    from atrous.cli.console import print_json, spell_options
    from atrous.display.console import build_console

    lines = api.plan_training(loaded)
    if as_json:
        print_json({"plan": lines, "notes": list_notes(lines)})
    else:
        build_console().print(spell_options("\n".join(lines)))
    return 0


def _print_preview(loaded: LoadedConfig, *, as_json: bool) -> int:
    from atrous import api
    from atrous.cli.console import print_json
    from atrous.display.console import build_console

    written = str(api.preview_training(loaded))
    if as_json:
        print_json({"preview": written})
    else:
        build_console().print(f"preview: {written}")
    return 0


def _carry_out(loaded: LoadedConfig, *, resume: Path | None, extend: Path | None, quiet: bool, as_json: bool) -> int:
    from atrous import api
    from atrous.cli.console import open_display
    from atrous.cli.launch import is_first

    with open_display(quiet=quiet or not is_first()) as display:
        result = api.run_training(
            loaded,
            resume=resume,
            extend=extend,
            progress=display.progress,
            on_message=display.on_message,
        )
    if not is_first():
        return INTERRUPTED_EXIT_CODE if result.interrupted else 0
    return print_run(result, as_json=as_json)


def _parse_class_weights(text: str | None) -> str | list[float] | None:
    from atrous.cli.inference_options import parse_numbers

    return text if text in (None, "none", "auto") else parse_numbers(text, "--class-weights")
