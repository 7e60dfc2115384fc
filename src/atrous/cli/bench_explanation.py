"""`atrous bench --explain`: how each atrous convolution of models is computed on this machine, and why."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from atrous.core.errors import ConfigError

HEADINGS = ("", "channels", "kernel", "rate", "map", "output", "features' gradient", "weight gradient")


def explain_models(
    models: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    output_strides: Sequence[int | None],
    precisions: Sequence[str],
    backends: Sequence[str],
    *,
    opening: Mapping[str, Any],
    quiet: bool,
    json: bool,
) -> int:
    """Print the convolutions of every model for every combination; return the exit code.

    Args:
        models: Runs, files or names.
        sizes: Heights and widths of images in pixels.
        output_strides: Input resolution / feature resolution; None for the model's.
        precisions: Such as fp32, bf16.
        backends: Such as torch, compile.
        opening: Device and trust, as for `atrous.load`.
        quiet: Whether to show no progress.
        json: Whether to print JSON.
    Raises:
        ConfigError: A model cannot have an output stride, or no backend has a precision.
        UsageError: A model is an exported file.
    """
    from atrous.cli.console import open_display, print_json, show_loading
    from atrous.core.provenance import describe_machine
    from atrous.core.records import Note, list_notes, send_message
    from atrous.networks.model_source import find_model

    for model in models:
        find_model(model)
    found: list[dict[str, Any]] = []
    refusal: ConfigError | None = None
    with open_display(quiet=quiet) as display:
        with show_loading(display):
            from atrous.model import load
        for model in models:
            opened = load(model, **opening, on_message=display.on_message)
            network = opened.network
            for backend, precision in itertools.product(backends, precisions):
                candidate = opened.reopen(backend=backend, precision=precision)
                for size, stride in itertools.product(sizes, output_strides):
                    try:
                        listed = candidate.list_convolutions(size, output_stride=stride)
                    except ConfigError as error:  # a backend that has not the precision
                        refusal = error
                        send_message(display.on_message, Note("skipped", f"skipped: {error.message}"))
                        continue
                    what = {"name": model, "height": size[0], "width": size[1], "backend": candidate.engine.backend}
                    what |= {"output_stride": stride or network.output_stride, "precision": precision}
                    found.append({**what, "convolutions": [each.to_json() for each in listed]})
    if refusal is not None and not found:
        raise refusal
    machine = describe_machine()
    if json:
        print_json({"models": found, "machine": machine, "notes": list_notes(display.notes)})
    else:
        _print_tables(found, machine)
    return 0


def _print_tables(found: Sequence[Mapping[str, Any]], machine: Mapping[str, Any]) -> None:
    """Print a table for each combination; ways have the numbers of their reasons, which are listed at the end."""
    from atrous.display.console import build_console
    from atrous.display.tables import build_table
    from atrous.inference.convolutions import PARTS

    console = build_console()
    rows = [row for each in found for row in each["convolutions"]]
    reasons = {
        why: number for number, why in enumerate(dict.fromkeys(row["why"][part] for row in rows for part in PARTS), 1)
    }
    for each in found:
        what = f"{each['backend']}, {each['precision']}, stride {each['output_stride']}"
        title = f"{each['name']}: {what}, {each['width']} x {each['height']} pixels"
        if not each["convolutions"]:
            console.print(f"{title}: every convolution in the library's way", markup=False)
            continue
        table = build_table(*HEADINGS, title=title)
        for row in each["convolutions"]:
            is_depthwise = row["groups"] == row["channels"] > 1
            table.add_row(
                row["name"],
                f"{row['channels']} depthwise" if is_depthwise else f"{row['channels']} > {row['filters']}",
                *(_describe_sides(row[key]) for key in ("kernel", "rate", "map")),
                *(f"{row[part]} ({reasons[row['why'][part]]})" for part in PARTS),
            )
        console.print(table)
    for why, number in reasons.items():
        console.print(f"({number}) {why}", markup=False, highlight=False)
    where = f"on {machine['processor']}, a CPU of the kind {machine['cpu_kind']}"
    console.print(f"{where}; sides of kernels, rates and maps in cells, gradients in a training", markup=False)


def _describe_sides(sides: Sequence[int]) -> str:
    return str(sides[0]) if sides[0] == sides[1] else f"{sides[0]} x {sides[1]}"
