"""`atrous predict`: images in, label maps out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from atrous.cli.inference_options import JsonOption, ProcessesOption, QuietOption, take_inference_options
from atrous.core.errors import SKIPPED_EXIT_CODE, UsageError
from atrous.core.inference_options import Opening
from atrous.core.records import list_notes
from atrous.core.registry import describe_choices
from atrous.core.shipped import DEFAULT_MODEL
from atrous.data import CONVERTERS, WRITTEN

FORMATS = ["ids", "labels", "overlay", "confidence", "areas", *CONVERTERS.find_tagged(WRITTEN)]


@take_inference_options
def run(
    context: typer.Context,
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Images, folders, or quoted patterns.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="A run folder, .safetensors, .pth, an exported file, or a name of `atrous models`. Default: animals.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the results.")] = Path("predictions"),
    formats: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="Any of ids (grey), labels (with a palette of colours), overlay, confidence, areas (a CSV file of "
            "what each class covers), and annotations as labelme, coco, cvat or geojson, separated by commas. "
            "Default: ids,overlay.",
        ),
    ] = None,
    submission: Annotated[
        str | None,
        typer.Option("--submission", metavar="NAME", help="Also write what the server of voc or cityscapes takes."),
    ] = None,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Also write the probability of every class.")
    ] = False,
    min_confidence: Annotated[
        float | None,
        typer.Option(
            "--min-confidence",
            min=0.0,
            max=1.0,
            help="Pixels below it get id 255, or the largest free id below.",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Label everything again, and replace files of the same names."),
    ] = False,
    *,
    inference: dict[str, Any],
    processes: ProcessesOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Label every pixel of images. Run it again after an interruption to continue.

    Example: atrous predict photo.jpg

    Example: atrous predict photos/ --model runs/demo --out labelled/
    """
    from atrous.cli.console import open_display, print_json, show_loading
    from atrous.cli.launch import is_first, must_launch, run_processes
    from atrous.core.output_folder import require_folder
    from atrous.display.console import build_console
    from atrous.inference.folders.inputs import require_input
    from atrous.networks.model_source import describe_default, find_model

    wanted = None if formats is None else tuple(formats.split(","))
    for name in wanted or ():
        if name not in FORMATS:
            raise UsageError(f"--format got {name!r}", describe_choices(name, FORMATS))
    if submission is not None:
        from atrous.inference.folders.submission import require_benchmark

        require_benchmark(submission)
    for source in inputs:
        require_input(source)
    source = DEFAULT_MODEL if model is None else model
    find_model(source)
    if is_first():  # alone: the folder that the check makes is removed again
        require_folder(out)
    if must_launch(processes):
        return run_processes(context.obj, processes or 1)
    opening = {name: inference.pop(name) for name in vars(Opening()) if name in inference}
    with open_display(quiet=quiet or not is_first()) as display:
        with show_loading(display):
            from atrous.runs.predicted import predict_files
            from atrous.training.world import open_world

        if model is None:
            display.on_message(describe_default())
        with open_world() as world:
            summary = predict_files(
                inputs,
                source,
                out,
                given=inference,
                opening=opening,
                formats=wanted,
                submission=submission,
                probabilities=probabilities,
                min_confidence=min_confidence or 0.0,
                overwrite=overwrite,
                world=world,
                progress=display.progress,
                on_message=display.on_message,
            )
    if not is_first():
        return 0
    if json:
        counts = {"done": summary.done, "kept": summary.kept, "skipped": summary.skipped}
        print_json({**counts, "folder": str(summary.folder), "notes": list_notes(display.notes)})
    else:
        messages = build_console(stderr=True)
        for row in summary.skipped:
            messages.print(f"skipped {row['input']}: {row['reason']}", style="yellow")
        build_console().print(f"{summary.describe()}\npredictions: {summary.folder}")
    return SKIPPED_EXIT_CODE if summary.skipped else 0
