"""What an exported file says of its graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from atrous.networks.model_file import ModelCard

FORMAT = "atrous-graph"


FORMAT_VERSION = 1


@dataclass(frozen=True)
class GraphCard:
    """What a file says of its graph besides the model's card.

    Args:
        output: Whether it gives logits of every pixel, or the index of each pixel's likeliest class.
        precision: What its convolutions compute in; fp32 where the runtime may choose.
        output_stride: Input resolution / feature resolution, which cannot be changed any more.
        aligned: How scaled copies of an image are to be made, as in `Geometry`.
        bytes_per_pixel: Memory that the network's forward pass needed for each pixel of the image.
        versions: Versions of the software that wrote the file.
        parity: How far its answers were from the living network's; empty while that is being found out.
    """

    output: Literal["logits", "labels"]
    output_stride: int
    aligned: bool
    bytes_per_pixel: float
    precision: Literal["fp32", "int8"] = "fp32"
    versions: dict[str, str] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> GraphCard:
        """Build a card; unknown fields of later versions are left out."""
        card = cls(**{name: value[name] for name in cls.__dataclass_fields__ if name in value})
        if card.output not in ("logits", "labels") or card.precision not in ("fp32", "int8"):
            raise ValueError(f"output {card.output!r}, precision {card.precision!r}")
        if not (card.bytes_per_pixel > 0 and card.output_stride >= 1 and isinstance(card.aligned, bool)):
            raise ValueError(f"bytes_per_pixel {card.bytes_per_pixel!r}, output_stride {card.output_stride!r}")
        return card


def write_metadata(card: ModelCard, graph: GraphCard) -> dict[str, str]:
    """Return what stands in a file beside its graph, and `read_file` reads."""
    return {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "card": json.dumps(card.to_json()),
        "graph": json.dumps(asdict(graph)),
    }
