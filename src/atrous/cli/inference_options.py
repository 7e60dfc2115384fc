"""The options that scoring and predicting share: how an image becomes labels."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from atrous.core.errors import UsageError

DeviceOption = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
DataRootOption = Annotated[
    str | None, typer.Option("--data-root", help="Folder of registered data sets; else ATROUS_DATA.")
]
TrustOption = Annotated[bool, typer.Option("--trust", help="Open a .pt2, which can run any code that it holds.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Show no progress and no remarks.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def take_inference_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of `read_inference_options`, in the place of its parameter `inference`."""
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
    output_stride: Annotated[
        int | None, typer.Option("--output-stride", help="4, 8, 16 or 32; that of the build if left out.")
    ] = None,
    scales: Annotated[
        str | None, typer.Option("--scales", help="Scales whose probabilities are averaged, such as 0.75,1,1.25.")
    ] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Average the mirrored image in.")] = False,
    window: Annotated[
        int | None,
        typer.Option(
            "--window",
            help="Side of a sliding window in pixels; left out: whole images, in eval as in the run's validations.",
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            help="auto, fp32 or bf16; auto: in eval as in the run's validations, else bf16 where that is as good.",
        ),
    ] = None,
    crf: Annotated[bool, typer.Option("--crf", help="Let DenseCRF follow the network; it can hurt.")] = False,
    crf_set: Annotated[
        list[str] | None,
        typer.Option(
            "--crf-set",
            metavar="KEY=VALUE",
            help="An option of DenseCRF, such as bilateral_weight=6; switches it on like --crf.",
        ),
    ] = None,
    device: DeviceOption = None,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            help="What runs the network: torch, compile, openvino, onnxruntime; auto is torch, or a file's own.",
        ),
    ] = None,
    trust: TrustOption = False,
) -> dict[str, Any]:
    """Return the options as keyword arguments of `atrous.evaluate` and `atrous.predict`.

    Raises:
        ConfigError: An option is out of its range; all of them in one message.
    """
    from atrous.config.load import load_config

    config = load_config(
        options={
            "evaluation.output_stride": output_stride,
            "evaluation.scales": parse_numbers(scales, "--scales"),
            "evaluation.flip": flip,
            "evaluation.window": window,
            "evaluation.precision": precision,
            "evaluation.backend": backend,
            "evaluation.crf": _parse_crf_options(crf_set or []) or crf,
            "output.device": device,
        }
    ).config
    return {**config.evaluation.model_dump(), "device": config.output.device, "trust": trust}


def _parse_crf_options(words: list[str]) -> dict[str, float]:
    """Read words such as "bilateral_weight=6".

    Raises:
        UsageError: One of them is no name and number.
    """
    options = {}
    for word in words:
        name, _, number = word.partition("=")
        try:
            options[name] = float(number)
        except ValueError as error:
            raise UsageError(f"--crf-set got {word!r}", "Write a name and a number: bilateral_weight=6.") from error
    return options


def parse_numbers(text: str | None, option: str) -> list[float] | None:
    """Read numbers separated by commas; None stays None.

    Raises:
        UsageError: One of them is not a number.
    """
    if text is None:
        return None
    try:
        return [float(word) for word in text.split(",")]
    except ValueError as error:
        raise UsageError(f"{option} got {text!r}", "Write numbers separated by commas, such as 0.75,1,1.25.") from error
