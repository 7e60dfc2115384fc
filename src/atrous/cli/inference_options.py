"""The options that scoring and predicting share: how a picture becomes labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from atrous.core.errors import UsageError

if TYPE_CHECKING:
    from atrous.config.schema import Config

OutputStrideOption = Annotated[
    int | None,
    typer.Option("--output-stride", help="4, 8, 16 or 32; that of the build if left out."),
]
ScalesOption = Annotated[
    str | None,
    typer.Option("--scales", help="Scales whose probabilities are averaged, such as 0.75,1,1.25."),
]
FlipOption = Annotated[bool, typer.Option("--flip", help="Average the mirrored picture in.")]
WindowOption = Annotated[
    int | None,
    typer.Option("--window", help="Side of a sliding window in pixels; whole pictures if left out."),
]
CrfOption = Annotated[bool, typer.Option("--crf", help="Let DenseCRF follow the network; it can hurt.")]
CrfSetOption = Annotated[
    list[str] | None,
    typer.Option("--crf-set", metavar="KEY=VALUE", help="An option of DenseCRF, such as bilateral_weight=6."),
]
PrecisionOption = Annotated[str | None, typer.Option("--precision", help="auto, fp32 or bf16; auto is fp32.")]
DeviceOption = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1 or mps.")]
DataRootOption = Annotated[
    str | None, typer.Option("--data-root", help="Folder of registered data sets; else ATROUS_DATA.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Show no progress and no remarks.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]


def check_inference_options(
    *,
    output_stride: int | None,
    scales: str | None,
    flip: bool,
    window: int | None,
    precision: str | None,
    crf: bool,
    crf_set: list[str] | None,
    device: str | None,
) -> dict[str, Any]:
    """Return the options as keyword arguments of `atrous.evaluate` and `atrous.predict`.

    Raises:
        ConfigError: An option is out of its range; all of them in one message.
    """
    from atrous.config.load import load_config

    config: Config = load_config(
        options={
            "evaluation.output_stride": output_stride,
            "evaluation.scales": parse_numbers(scales, "--scales"),
            "evaluation.flip": flip,
            "evaluation.window": window,
            "evaluation.precision": precision,
            "evaluation.crf": _parse_crf_options(crf_set or []) or crf,
            "output.device": device,
        }
    ).config
    return {**config.evaluation.model_dump(), "device": config.output.device}


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
