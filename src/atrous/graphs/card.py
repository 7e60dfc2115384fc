"""The description of a graph in the metadata of an exported file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from atrous.graphs.atrous_form import Form
from atrous.networks.model_card import ModelCard

FORMAT = "atrous-graph"


FORMAT_VERSION = 1


@dataclass(frozen=True)
class GraphCard:
    """Description of a graph, stored in the file in addition to the model card.

    Args:
        output: Whether the graph returns logits of every pixel, or the index of each pixel's most likely class.
        precision: Precision of its convolutions; with fp32 the runtime may choose another.
        output_stride: Input resolution / feature resolution, fixed in the graph.
        aligned: Resize convention for scaled copies of an image, as in `Geometry`.
        bytes_per_pixel: Memory that the forward pass of the network needed per pixel of the image.
        versions: Versions of the software that wrote the file.
        atrous: Whether atrous convolutions are operations of their own, or some are sums over taps.
        parity: Differences between the results of the file and the network; empty until they are measured.
    """

    output: Literal["logits", "labels"]
    output_stride: int
    aligned: bool
    bytes_per_pixel: float
    precision: Literal["fp32", "int8"] = "fp32"
    atrous: Form = "native"
    versions: dict[str, str] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> GraphCard:
        """Build a card; unknown fields, written by later versions, are ignored.

        Raises:
            ValueError: A field has a value that is not allowed.
        """
        card = cls(**{name: value[name] for name in cls.__dataclass_fields__ if name in value})
        if card.output not in ("logits", "labels") or card.precision not in ("fp32", "int8"):
            raise ValueError(f"output {card.output!r}, precision {card.precision!r}")
        if card.atrous not in ("native", "taps"):
            raise ValueError(f"atrous {card.atrous!r}")
        if not (card.bytes_per_pixel > 0 and card.output_stride >= 1 and isinstance(card.aligned, bool)):
            raise ValueError(f"bytes_per_pixel {card.bytes_per_pixel!r}, output_stride {card.output_stride!r}")
        return card


def write_metadata(card: ModelCard, graph: GraphCard) -> dict[str, str]:
    """Return the metadata of an exported file, as `read_file` reads it.

    Args:
        card: Description of the model.
        graph: Description of the graph.
    """
    return {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "card": json.dumps(card.to_json()),
        "graph": json.dumps(asdict(graph)),
    }
