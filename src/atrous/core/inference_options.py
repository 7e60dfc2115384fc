"""How images are labelled, and how a model is opened: the one list of these options, with defaults and help.

The `evaluation` section of a configuration, the keywords of Python calls and the options of commands read this list.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, MinLen

Precision = Literal["auto", "fp32", "bf16", "int8"]
"""int8 is for files that were exported with it; the engine refuses it for networks."""


def _describe(description: str) -> dict[str, str]:
    return {"description": description}


@dataclass(frozen=True)
class InferenceOptions:
    """How an image becomes labels."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    output_stride: Annotated[int, Ge(1), Le(1_000_000)] | None = field(
        default=None,
        metadata=_describe("Input resolution / feature resolution, such as 8 or 16. Default: the model's."),
    )
    scales: Annotated[tuple[Annotated[float, Gt(0), Le(1000)], ...], MinLen(1)] = field(
        default=(1.0,), metadata=_describe("Scales of the image whose class probabilities are averaged: 0.75,1,1.25.")
    )
    flip: bool = field(default=False, metadata=_describe("Also average the probabilities of the flipped image."))
    window: Annotated[int, Ge(33), Le(1_000_000)] | Literal["none"] | None = field(
        default=None,
        metadata=_describe(
            "Side of a sliding window in pixels, or none: whole images, unless one does not fit in memory."
        ),
    )
    crf: bool | dict[str, Any] = field(
        default=False, metadata=_describe("Refine the labels with DenseCRF, which can lower the score.")
    )


@dataclass(frozen=True)
class Opening:
    """How a model is opened: what computes it, where, and whether its file may run code."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    device: str = field(default="auto", metadata=_describe("auto, cpu, cuda, cuda:1 or mps."))
    precision: Precision = field(
        default="auto",
        metadata=_describe(
            "auto, fp32 or bf16; auto: bf16 if it is faster and its validation score is as good; or an exported file's."
        ),
    )
    backend: str = field(
        default="auto",
        metadata=_describe(
            "Runtime of the network: torch, compile, openvino or onnxruntime; auto: torch, to predict many images "
            "the fastest that is installed and gives the same labels; or the file's own."
        ),
    )
    trust: bool = field(default=False, metadata=_describe("Open a .pt2 file, which can execute arbitrary code."))

    def list_changes(self) -> list[str]:
        """Return the names of the options that differ from their defaults."""
        return [each.name for each in fields(self) if getattr(self, each.name) != each.default]


def describe_options(*kinds: type[InferenceOptions] | type[Opening]) -> dict[str, str]:
    """Return the description of each option by its name."""
    return {each.name: each.metadata["description"] for kind in kinds for each in fields(kind)}
