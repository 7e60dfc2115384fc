"""A network as a graph that runtimes other than PyTorch run, and what these runtimes share."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from atrous.core.errors import ConfigError, MachineError, ModelFileError
from atrous.networks.contracts import Cells, Geometry
from atrous.networks.device import is_out_of_memory
from atrous.networks.layers.resize import enlarge_logits


class Graph:
    """What is known of a graph, whose batch, height and width are open. Abstract.

    `name` is what messages call it; `source` is what a runtime opens, a file or the bytes of an .onnx file; `output` is
    what it gives: small logits, logits of every pixel, or the index of each pixel's likeliest class; `aligned` tells
    how scaled copies of an image are to be made.
    """

    name: str
    source: Path | bytes
    num_classes: int
    aligned: bool
    output: Literal["cells", "logits", "labels"]
    output_stride: int
    bytes_per_pixel: float

    @abstractmethod
    def locate(self, height: int, width: int) -> Geometry:
        """Return where the logits lie for an image of this size in pixels."""


class GraphBackend:
    """What the runtimes of graphs share. Abstract.

    Args:
        graph: What is run.
        device: Where it runs, of a kind that the runtime has.
        precision: "fp32", or "bf16" where the runtime has it.
    Raises:
        ConfigError: The runtime has not the precision.
        ModelFileError: The runtime cannot open the file.
    """

    precisions: tuple[str, ...] = ("fp32",)

    def __init__(self, graph: Graph, *, device: torch.device, precision: str) -> None:
        if precision not in self.precisions:
            able = " or ".join(word for word in self.precisions if word != "int8")
            raise ConfigError(
                f"precision {precision}: {graph.name} runs in {able} with this backend",
                "Leave --precision out.",
            )
        self.graph = graph
        self.device = device
        self.num_classes = graph.num_classes
        self.aligned = graph.aligned
        self.labels_only = graph.output == "labels"
        self.is_full_size = graph.output != "cells"
        self._lock = threading.Lock()
        try:
            self._open(graph.source, precision)
        except Exception as error:  # each runtime has errors of its own
            raise ModelFileError(
                f"{graph.name}: cannot be opened: {read_first_line(error)}", "Export it again."
            ) from error

    @staticmethod
    @abstractmethod
    def read_metadata(path: Path) -> Mapping[str, str]:
        """Return what stands in the file beside its graph; empty where it is another's."""

    @staticmethod
    @abstractmethod
    def list_devices() -> tuple[str, ...]:
        """Return the kinds of device that the runtime has here, the best first."""

    @abstractmethod
    def _open(self, source: Path | bytes, precision: str) -> None:
        """Make ready to run."""

    @abstractmethod
    def _run(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> what the graph gives."""

    def __call__(self, images: Tensor) -> Cells:
        """(B, 3, H, W) uint8, or floats in [0, 1] -> cells with logits (B, K, h, w), at every pixel for exported files.

        Floats are rounded to whole steps of 0 to 255, which is what the graph takes.

        Raises:
            MachineError: The memory does not suffice.
            ModelFileError: The graph is not what its description says.
        """
        height, width = images.shape[2:]
        geometry = self.graph.locate(height, width)
        shape = (len(images), self.num_classes, geometry.map_height, geometry.map_width)
        return Cells(self._answer(images, shape), None, geometry)

    def label(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> class indices (B, H, W); errors as of a call."""
        if not self.labels_only:
            cells = self(images)
            return enlarge_logits(cells.logits, cells.geometry).argmax(dim=1)
        return self._answer(images, (len(images), *images.shape[2:]))

    def _answer(self, images: Tensor, expected: tuple[int, ...]) -> Tensor:
        height, width = images.shape[2:]
        if images.is_floating_point():
            images = (images * 255).round().to(torch.uint8)
        try:
            with self._lock:  # a runtime answers one call at a time
                answer = self._run(images.to(self.device))
        except Exception as error:  # each runtime has errors of its own
            if is_out_of_memory(error) or "alloc" in str(error):
                raise MachineError(
                    f"an image of {height} x {width} pixels does not fit in the memory of {self.device}",
                    "Label it in windows, such as --window 513, or with smaller scales.",
                ) from error
            raise ModelFileError(
                f"{self.graph.name}: fails on an image of {height} x {width} pixels: {read_first_line(error)}",
                "Export it again.",
            ) from error
        if tuple(answer.shape) != expected:
            raise ModelFileError(
                f"{self.graph.name}: gave {tuple(answer.shape)} where its description says {expected}",
                "Export it again.",
            )
        return answer

    def measure_bytes_per_pixel(self) -> float:
        """Return how much memory a forward pass needs for each pixel of the image."""
        return self.graph.bytes_per_pixel


def read_first_line(error: Exception) -> str:
    """Return the first line of what an error says, its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
