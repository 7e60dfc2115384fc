"""Graphs of networks, and what the backends that run them share."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from atrous.core.errors import ConfigError, MemoryShort, ModelFileError
from atrous.core.inputs import DTYPE_RANGES, ImageForm
from atrous.core.system_errors import describe_reason, is_out_of_memory, raise_shortage
from atrous.networks.contracts import Cells, Geometry
from atrous.networks.layers.resize import enlarge_logits


class Graph:
    """A graph for any batch, height and width. Abstract.

    `name` is its name in messages. `source` is what a runtime opens: a file, or the bytes of an .onnx file. `output` is
    what it returns: logits of cells, logits of every pixel, or the index of each pixel's likeliest class. `aligned`
    says how scaled copies of an image are made. `form` is that of the images. `bytes_per_pixel` is the memory of a
    forward pass.
    """

    name: str
    source: Path | bytes
    num_classes: int
    aligned: bool
    form: ImageForm
    output: Literal["cells", "logits", "labels"]
    output_stride: int
    bytes_per_pixel: float

    @abstractmethod
    def locate(self, height: int, width: int) -> Geometry:
        """Return the geometry of the logits for an image of this size in pixels.

        Args:
            height: Height of the image in pixels.
            width: Width of the image in pixels.
        """


class GraphBackend:
    """Runs a graph. Abstract: a subclass names its runtime's calls.

    Args:
        graph: The graph.
        device: A device of a kind that `list_devices` returns.
        precision: One of `precisions`.
    Raises:
        ConfigError: The runtime does not support the precision.
        ModelFileError: The runtime cannot open the graph.
    """

    precisions: tuple[str, ...] = ("fp32",)

    def __init__(self, graph: Graph, *, device: torch.device, precision: str) -> None:
        # A graph that enlarges its logits computes where pixels lie, which in bf16 is wrong by pixels on large images.
        self.precisions = tuple(each for each in self.precisions if each != "bf16" or graph.output == "cells")
        if precision not in self.precisions:
            able = " or ".join(word for word in self.precisions if word != "int8")
            raise ConfigError(
                f"precision {precision}: {graph.name} runs in {able} with this backend",
                "Remove `precision`.",
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
        except Exception as error:  # each runtime raises its own errors
            raise_shortage(error, graph.name)
            raise ModelFileError(
                f"{graph.name}: cannot be opened: {describe_reason(error)}", "Export it again."
            ) from error

    @staticmethod
    @abstractmethod
    def read_metadata(path: Path) -> Mapping[str, str]:
        """Return the metadata of a file; empty if another program wrote it."""

    @staticmethod
    @abstractmethod
    def list_devices() -> tuple[str, ...]:
        """Return the kinds of device that the runtime can use here, the best first."""

    @abstractmethod
    def _open(self, source: Path | bytes, precision: str) -> None:
        """Open the graph."""

    @abstractmethod
    def _run(self, images: Tensor) -> Tensor:
        """Return the graph's output for images (B, C, H, W) in the type that it takes."""

    def __call__(self, images: Tensor) -> Cells:
        """Run the graph on a batch of images. Floats are rounded to the integers that the graph takes, if it does.

        Shapes:
            in (B, C, H, W), see `Backend`; out cells with logits (B, K, h, w), one cell for every pixel if
            the graph is an exported file.
        Raises:
            MemoryShort: The images do not fit in memory.
            ModelFileError: The graph's output is not what its description says.
        """
        height, width = images.shape[2:]
        geometry = self.graph.locate(height, width)
        shape = (len(images), self.num_classes, geometry.map_height, geometry.map_width)
        return Cells(self._answer(images, shape), None, geometry)

    def label(self, images: Tensor) -> Tensor:
        """Return the likeliest class of each pixel; errors as for a call.

        Shapes:
            in (B, C, H, W), see `Backend`; out (B, H, W) class indices.
        """
        if not self.labels_only:
            cells = self(images)
            return enlarge_logits(cells.logits, cells.geometry).argmax(dim=1)
        return self._answer(images, (len(images), *images.shape[2:]))

    def _answer(self, images: Tensor, expected: tuple[int, ...]) -> Tensor:
        height, width = images.shape[2:]
        if images.is_floating_point():
            images = self._store(images)
        try:
            with self._lock:  # a session runs one call at a time
                answer = self._run(images.to(self.device))
        except Exception as error:  # each runtime raises its own errors
            if is_out_of_memory(error) or "alloc" in str(error):
                raise MemoryShort(
                    f"an image of {height} x {width} pixels does not fit in the memory of {self.device}",
                    "Label it in windows, such as `window=513`, or with smaller scales.",
                ) from error
            raise ModelFileError(
                f"{self.graph.name}: fails on an image of {height} x {width} pixels: {describe_reason(error)}",
                "Export it again.",
            ) from error
        if tuple(answer.shape) != expected:
            raise ModelFileError(
                f"{self.graph.name}: returned {tuple(answer.shape)}, but its description says {expected}",
                "Export it again.",
            )
        return answer

    def _store(self, images: Tensor) -> Tensor:
        """Return floats, of 8-bit images in [0, 1], in the type in which files store them."""
        if self.graph.form.dtype == "float32":
            return images.float()
        high = DTYPE_RANGES[self.graph.form.dtype][1]
        values = (images * high if self.graph.form.dtype == "uint8" else images).round()
        return values.clamp(0, high).to(getattr(torch, self.graph.form.dtype))

    def measure_bytes_per_pixel(self) -> float:
        """Return how many bytes of memory a forward pass needs for each pixel of the image."""
        return self.graph.bytes_per_pixel
