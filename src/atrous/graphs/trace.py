"""A living network as a graph that runtimes other than PyTorch can run, its batch, height and width left open."""

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
"""What a graph gives: small logits, logits of every pixel, or the index of each pixel's likeliest class."""

INPUT_NAME = "image"
EXAMPLE_SHAPE = (2, 3, 75, 101)
"""Of the image that is traced: sizes differ, none is 1, and it needs padding, so that nothing is taken for fixed."""


class ImageGraph(nn.Module):
    """A network as a function of one tensor; normalisation and padding are inside.

    Args:
        network: The network, at the output stride that the graph is to have.
        output: What comes out.
    Shapes:
        in (B, 3, H, W) uint8 RGB; out "cells" (B, K, h, w) float32, "logits" (B, K, H, W) float32, "labels" (B, H, W)
        int64 class indices.
    """

    def __init__(self, network: Segmenter, output: Output) -> None:
        super().__init__()
        self.network = network
        self.output = output

    def forward(self, image: Tensor) -> Tensor:
        """Return what the graph gives."""
        cells = self.network.forward_cells(image)
        if self.output == "cells":
            return cells.logits
        logits = enlarge_logits(cells.logits, cells.geometry)
        return logits if self.output == "logits" else logits.argmax(dim=1)


@torch.no_grad()
def trace_network(network: Segmenter, output: Output) -> ExportedProgram:
    """Return the network's graph, which holds for a batch, a height and a width of any number from 1 on.

    Args:
        network: The network, in evaluation mode, at the output stride that the graph is to have.
        output: What comes out.
    """
    example = torch.zeros(EXAMPLE_SHAPE, dtype=torch.uint8, device=network.mean.device)
    open_sizes = {INPUT_NAME: {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}}
    with _suppose_no_size(), _without_inplace(network):
        return torch.export.export(ImageGraph(network, output), (example,), dynamic_shapes=open_sizes, strict=False)


def _suppose_no_size() -> AbstractContextManager[object]:
    """Keep the tracer from noting that a map had more than one cell a side, where PyTorch can (from 2.7 on)."""
    known = hasattr(tracing, "backed_size_oblivious")
    return tracing.patch(backed_size_oblivious=True) if known else nullcontext()  # type: ignore[attr-defined]


@contextmanager
def _without_inplace(network: Segmenter) -> Iterator[None]:
    """Let activations write to new memory while the block runs: graphs of the others take twice as long to convert."""
    modules: list[Any] = [module for module in network.modules() if getattr(module, "inplace", False)]
    for module in modules:
        module.inplace = False
    try:
        yield
    finally:
        for module in modules:
            module.inplace = True
