"""The options that scoring and predicting share: how an image becomes labels."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from atrous.core.errors import UsageError
from atrous.core.inference_options import InferenceOptions, Opening, describe_options

_HELP = describe_options(InferenceOptions, Opening)
DeviceOption = Annotated[str | None, typer.Option("--device", help=_HELP["device"])]
DataRootOption = Annotated[
    str | None, typer.Option("--data-root", help="Folder of registered data sets, or of data that moved.")
]
TrustOption = Annotated[bool, typer.Option("--trust", help=_HELP["trust"])]
ProcessesOption = Annotated[
    int | None, typer.Option("--processes", min=1, help="Processes that share out the images. Default: 1.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Show no progress and no messages.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print a single JSON object to standard output.")]


def take_inference_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of `read_inference_options`, instead of its parameter `inference`."""
    own, shared = (
        list(inspect.signature(function, eval_str=True).parameters.values())
        for function in (command, read_inference_options)
    )
    parameters = [each for parameter in own for each in (shared if parameter.name == "inference" else [parameter])]

    @functools.wraps(command)
    def run(**words: Any) -> int:
        given = {parameter.name: words.pop(parameter.name) for parameter in shared}
        return command(**words, inference=read_inference_options(**given))

    # Both are what typer reads of a function.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def read_inference_options(
    *,
    output_stride: Annotated[int | None, typer.Option("--output-stride", help=_HELP["output_stride"])] = None,
    scales: Annotated[str | None, typer.Option("--scales", help=_HELP["scales"])] = None,
    flip: Annotated[bool | None, typer.Option("--flip/--no-flip", help=_HELP["flip"])] = None,
    window: Annotated[str | None, typer.Option("--window", metavar="PIXELS", help=_HELP["window"])] = None,
    precision: Annotated[str | None, typer.Option("--precision", help=_HELP["precision"])] = None,
    crf: Annotated[bool | None, typer.Option("--crf/--no-crf", help=_HELP["crf"])] = None,
    crf_set: Annotated[
        list[str] | None,
        typer.Option(
            "--crf-set",
            metavar="KEY=VALUE",
            help="An option of DenseCRF, such as bilateral_weight=6; implies --crf.",
        ),
    ] = None,
    device: DeviceOption = None,
    backend: Annotated[str | None, typer.Option("--backend", help=_HELP["backend"])] = None,
    trust: TrustOption = False,
) -> dict[str, Any]:
    """Return the options that were given, checked, as keywords of `atrous.evaluate` and `atrous.predict`.

    Args:
        output_stride: See `InferenceOptions`.
        scales: Numbers separated by commas.
        flip: See `InferenceOptions`.
        window: A number of pixels, or none.
        precision: See `Opening`.
        crf: See `InferenceOptions`.
        crf_set: Words such as "bilateral_weight=6".
        device: See `Opening`.
        backend: See `Opening`.
        trust: See `Opening`.
    Raises:
        UsageError: Words that cannot be read as numbers, or options that contradict each other.
        ConfigError: An option is out of its range; all of them in one message.
    """
    from atrous.config.options import update_options

    if crf is False and crf_set:
        raise UsageError("--no-crf and --crf-set contradict each other", "Remove one of them.")
    inference = {
        "output_stride": output_stride,
        "scales": parse_numbers(scales, "--scales"),
        "flip": flip,
        "window": window,
        "crf": _parse_crf_options(crf_set or []) or crf,
    }
    opening = {"precision": precision, "device": device, "backend": backend, "trust": trust}
    checked = vars(update_options(InferenceOptions(), inference)) | vars(update_options(Opening(), opening))
    return {name: checked[name] for name, value in (inference | opening).items() if value is not None}


def _parse_crf_options(given: list[str]) -> dict[str, float]:
    """Read words such as "bilateral_weight=6".

    Raises:
        UsageError: One of them is no name and number.
    """
    options = {}
    for word in given:
        name, _, number = word.partition("=")
        try:
            options[name] = float(number)
        except ValueError as error:
            raise UsageError(f"--crf-set got {word!r}", "Write a name and a number: bilateral_weight=6.") from error
    return options


def parse_numbers(text: str | None, option: str) -> list[float] | None:
    """Read numbers separated by commas.

    Args:
        text: The numbers, or None, which is returned.
        option: The option that they were given to, for messages.
    Raises:
        UsageError: One of them is not a number.
    """
    if text is None:
        return None
    try:
        return [float(word) for word in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{option} got {text!r}", "Write numbers separated by commas, such as 0.75,1,1.25.") from error
