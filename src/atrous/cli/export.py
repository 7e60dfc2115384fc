"""`atrous export`: a model as a file that other runtimes run, or as a model file of half the size."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atrous.cli.inference_options import JsonOption, QuietOption
from atrous.core.records import list_notes


def run(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, .safetensors or .pth.")],
    format: Annotated[
        str, typer.Option("--format", help="onnx, openvino, pt2, or safetensors: a model file in half precision.")
    ] = "onnx",
    out: Annotated[Path | None, typer.Option("--out", help="The file. Default: beside the model.")] = None,
    argmax: Annotated[
        bool, typer.Option("--argmax", help="Give class indices instead of logits, without a confidence.")
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Compute in 8 bits: faster on a CPU, a little less accurate.")
    ] = False,
    calibrate: Annotated[
        str | None,
        typer.Option("--calibrate", help="Images for --int8, a folder or glob. Default: the run's training images."),
    ] = None,
    output_stride: Annotated[
        int | None,
        typer.Option("--output-stride", help="Output stride of the file, which is fixed. Default: the model's."),
    ] = None,
    atrous: Annotated[
        str,
        typer.Option(
            "--atrous",
            help="Atrous convolutions: native, taps (sums of 1x1 convolutions), or auto: the faster form here.",
        ),
    ] = "native",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that export did not write.")] = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Export a model for other runtimes, or as a small file.

    Example: atrous export runs/demo --format onnx --out demo.onnx

    Example: atrous export runs/demo --format safetensors --out small.safetensors
    """
    from atrous.cli.console import open_display, print_json, show_loading
    from atrous.core.output_folder import require_place
    from atrous.display.console import build_console
    from atrous.exporting import require_format
    from atrous.graphs.atrous_form import require_form
    from atrous.inference.folders.inputs import require_input
    from atrous.networks.model_source import find_model

    require_format(format)
    require_form(atrous)
    find_model(model)
    if calibrate is not None:
        require_input(calibrate)
    if out is not None:
        require_place(out)
    with open_display(quiet=quiet) as display:
        with show_loading(display):
            from atrous import api

        path, parity = api.export(
            model,
            out,
            format=format,
            argmax=argmax,
            int8=int8,
            calibrate=calibrate,
            output_stride=output_stride,
            atrous=atrous,
            overwrite=overwrite,
            progress=display.progress,
            on_message=display.on_message,
        )
    if json:
        print_json(
            {"file": str(path), "format": format, "parity": parity.to_json(), "notes": list_notes(display.notes)}
        )
    else:
        build_console().print(f"against the model: {parity.describe()}\nexported: {path}")
    return 0
