"""`atrous eval`: scores of one model or several."""

from __future__ import annotations

from typing import Annotated

import typer

from atrous.cli.inference_options import (
    DataRootOption,
    DeviceOption,
    FlipOption,
    JsonOption,
    OutputStrideOption,
    PrecisionOption,
    QuietOption,
    ScalesOption,
    WindowOption,
    check_inference_options,
)


def run(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... [DATA]",
            help="One word: a run, scored on its own validation data. More: the last is DATA.",
        ),
    ],
    output_stride: OutputStrideOption = None,
    scales: ScalesOption = None,
    flip: FlipOption = False,
    window: WindowOption = None,
    precision: PrecisionOption = None,
    device: DeviceOption = None,
    data_root: DataRootOption = None,
    quiet: QuietOption = False,
    json: JsonOption = False,
) -> int:
    """Score models on a data set, class by class.

    Example: atrous eval runs/demo --output-stride 8 --scales 0.75,1,1.25 --flip
    """
    from atrous.cli.console import build_console, print_json
    from atrous.cli.progress import open_display
    from atrous.cli.results import print_scores

    options = check_inference_options(
        output_stride=output_stride, scales=scales, flip=flip, window=window, precision=precision, device=device
    )
    from atrous import api

    models, data = (names, None) if len(names) == 1 else (names[:-1], names[-1])
    found = {}
    with open_display(quiet=quiet) as display:
        for model in models:
            found[model] = api.evaluate(
                model, data, **options, data_root=data_root, progress=display.progress, say=display.say
            )
    if json:
        rows = [{"model": model, **scores.to_json()} for model, scores in found.items()]
        print_json(rows[0] if len(rows) == 1 else {"models": rows})
        return 0
    console = build_console()
    for model, scores in found.items():
        print_scores(console, scores, title=f"{model} on {scores.data}")
    return 0
