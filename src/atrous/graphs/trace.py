"""Traces a network as a graph with dynamic batch, height and width, which other runtimes can run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as tracing

from atrous.networks.layers.resize import enlarge_logits
from atrous.networks.segmenter import Segmenter

Output = Literal["cells", "logits", "labels"]
"""Output of a graph: low-resolution logits, logits of every pixel, or the index of each pixel's most likely class."""

INPUT_NAME = "image"
EXAMPLE_SHAPE = (2, 75, 101)
"""Batch, height and width of the traced image: all sizes differ, none is 1, and it needs padding, so that no size
becomes constant."""


class ImageGraph(nn.Module):
    """A network as a function of one tensor; normalisation and padding are inside.

    Args:
        network: The network, at the output stride of the graph.
        output: Output of the graph.
    Shapes:
        in (B, C, H, W) in the type in which files store images; out "cells" (B, K, h, w) float32, "logits"
        (B, K, H, W) float32, "labels" (B, H, W) int64 class indices.
    """

    def __init__(self, network: Segmenter, output: Output) -> None:
        super().__init__()
        self.network = network
        self.output = output

    def forward(self, image: Tensor) -> Tensor:
        """Return the output of the graph, see the class."""
        cells = self.network.forward_cells(image)
        if self.output == "cells":
            return cells.logits
        logits = enlarge_logits(cells.logits, cells.geometry)
        return logits if self.output == "logits" else logits.argmax(dim=1)


@torch.no_grad()
def trace_network(network: Segmenter, output: Output) -> ExportedProgram:
    """Trace a network as a graph for any batch size, height and width >= 1.

    Args:
        network: The network, in evaluation mode, at the output stride of the graph.
        output: Output of the graph.
    """
    example = network.make_blank(*EXAMPLE_SHAPE)
    open_sizes = {INPUT_NAME: {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}}
    with _suppose_no_size(), _without_inplace(network):
        return torch.export.export(ImageGraph(network, output), (example,), dynamic_shapes=open_sizes, strict=False)


def _suppose_no_size() -> AbstractContextManager[object]:
    """Keep the tracer from assuming that maps have more than one cell per side; supported by PyTorch 2.7 and later."""
    known = hasattr(tracing, "backed_size_oblivious")
    return tracing.patch(backed_size_oblivious=True) if known else nullcontext()  # type: ignore[attr-defined]


@contextmanager
def _without_inplace(network: Segmenter) -> Iterator[None]:
    """Disable in-place activations inside the block; graphs with them take twice as long to convert."""
    modules: list[Any] = [module for module in network.modules() if getattr(module, "inplace", False)]
    for module in modules:
        module.inplace = False
    try:
        yield
    finally:
        for module in modules:
            module.inplace = True
