"""`atrous bench`: latency and memory of models on this machine."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from atrous.cli.inference_options import DataRootOption, DeviceOption, JsonOption, QuietOption, TrustOption
from atrous.core.errors import INTERRUPTED_EXIT_CODE, UsageError
from atrous.core.install import describe_install
from atrous.core.records import list_notes
from atrous.core.words import describe_count


def run(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Runs, files or names.", show_default=False)],
    sizes: Annotated[
        str, typer.Option("--sizes", help="Image sizes separated by commas: a side, or WIDTHxHEIGHT.")
    ] = "513",
    output_strides: Annotated[
        str | None, typer.Option("--output-strides", help="Such as 8,16. Default: the model's.")
    ] = None,
    precisions: Annotated[str, typer.Option("--precisions", help="Such as fp32,bf16.")] = "fp32,bf16",
    backends: Annotated[str, typer.Option("--backends", help="Such as torch,compile,openvino,onnxruntime.")] = "auto",
    data: Annotated[str | None, typer.Option("--data", help="Data to score each model on.")] = None,
    rounds: Annotated[
        int, typer.Option("--rounds", min=1, help="Timed runs per candidate, after two for warm-up.")
    ] = 10,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Time nothing: show how each atrous convolution is computed here, and why."),
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Write bench.json and bench.png into this folder.")] = None,
    device: DeviceOption = None,
    data_root: DataRootOption = None,
    trust: TrustOption = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files in --out that bench did not write.")
    ] = False,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Compare models: latency, memory and mIoU.

    Example: atrous bench runs/demo --sizes 513,480x360 --output-strides 8,16
    """
    wanted = [parse_size(word) for word in sizes.split(",")]
    strides = [None] if output_strides is None else [_parse_stride(word) for word in output_strides.split(",")]
    if explain:
        from atrous.cli.bench_explanation import explain_models

        if data is not None or out is not None:
            raise UsageError("--explain times nothing", "Remove --data and --out.")
        opening = {"device": device or "auto", "trust": trust}
        words = precisions.split(","), backends.split(",")
        return explain_models(models, wanted, strides, *words, opening=opening, quiet=quiet, json=json)
    from atrous.cli.console import open_display, print_json, show_loading
    from atrous.core.data_source import require_source
    from atrous.core.output_folder import require_folder
    from atrous.display.console import build_console
    from atrous.inference import BACKENDS
    from atrous.networks.model_source import find_model

    for model in models:
        find_model(model)
    for backend in backends.split(","):
        if backend != "auto":
            BACKENDS.require(backend)
    if data is not None:
        require_source(data, data_root)
    if out is not None:
        require_folder(out)
    found: dict[str, Any] = {}
    try:
        with open_display(quiet=quiet) as display:
            with show_loading(display):
                from atrous import api

            api.bench(
                models,
                wanted,
                output_strides=strides,
                precisions=precisions.split(","),
                backends=backends.split(","),
                data=data,
                rounds=rounds,
                out=out,
                device=device or "auto",
                data_root=data_root,
                trust=trust,
                overwrite=overwrite,
                progress=display.progress,
                on_message=display.on_message,
                on_result=found.update,
            )
    finally:  # also what was measured before a write failed
        if found and json:
            print_json({**found, "notes": list_notes(display.notes)})
        elif found:
            _print_rows(found)
    if out is not None and not json:
        build_console().print(f"figures: {out / 'bench.json'}")
    if found["interrupted"]:
        measured = len({(row["height"], row["width"]) for row in found["rows"]})
        build_console(stderr=True).print(f"interrupted: {measured} of {describe_count(len(wanted), 'size')} measured")
        return INTERRUPTED_EXIT_CODE
    return 0


def parse_size(word: str) -> tuple[int, int]:
    """Read a side such as "513", or a width and a height such as "480x360"; returns height and width.

    Raises:
        UsageError: It is neither.
    """
    sides = word.strip().split("x")
    if len(sides) > 2 or not all(re.fullmatch("0*[1-9][0-9]{0,6}", side) for side in sides):
        raise UsageError(f"--sizes got {word!r}", "Write sides in pixels, such as 513 or 480x360.")
    return int(sides[-1]), int(sides[0])


def _parse_stride(word: str) -> int:
    if not re.fullmatch("[0-9]{1,7}", word.strip()):
        raise UsageError(f"--output-strides got {word!r}", "Write numbers separated by commas, such as 8,16.")
    return int(word)


def _print_rows(found: dict[str, Any]) -> None:
    from atrous.display.console import build_console
    from atrous.display.tables import build_table

    console = build_console()
    for width, height in dict.fromkeys((row["width"], row["height"]) for row in found["rows"]):
        table = build_table("", "ms", "images/s", "peak MiB", "mIoU", title=f"{width} x {height} pixels")
        for row in found["rows"]:
            if (row["width"], row["height"]) == (width, height):
                backend = "" if row["backend"] == "auto" else f"{row['backend']}, "
                table.add_row(
                    f"{row['name']}\n  {backend}stride {row['output_stride']}, {row['precision']}",
                    f"{1e3 * row['median_s']:.1f}",
                    f"{row['images_per_s']:.2f}",
                    "-" if row["peak_mib"] is None else f"{row['peak_mib']:.0f}",
                    "-" if row["miou"] is None else f"{row['miou']:.4f}",
                )
        console.print(table)
    machine = found["machine"]
    console.print(
        f"medians of {describe_count(found['rounds'], 'turn')}, one image at a time, from pixels in memory to "
        f"labels in memory; on {found['device']}, {machine['processor']}, {describe_count(machine['cores'], 'core')}, "
        f"{describe_count(found['threads'], 'thread')}, "
        f"torch {found['versions']['torch']}, last stage by {found['last_stage']}"
    )
    if found["figures"]:
        _print_figures(found["figures"])
    if found["last_stage"] == "torch" and found["device"] == "cpu":
        console.print(f"{describe_install('numba', 'fast')} makes the last stage faster", markup=False)


def _print_figures(figures: list[dict[str, Any]]) -> None:
    """Print the figures by which `atrous predict --backend auto` chooses."""
    from atrous.display.console import build_console
    from atrous.display.tables import build_table

    table = build_table("", "torch", "it", "start, s", title="--backend auto: measured here, ms for each megapixel")
    for row in figures:
        table.add_row(
            f"{row['network'].split()[0]}, {row['backend']}\n  stride {row['output_stride']}, {row['precision']}, "
            f"{row['megapixels']:.2f} megapixels",
            f"{1e3 * row['torch_s']:.0f}",
            f"{1e3 * row['backend_s']:.0f}",
            f"{row['convert_s'] + row['open_s']:.1f}",
        )
    build_console().print(table)
