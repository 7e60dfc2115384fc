"""Runs a live network in PyTorch, compiled for this machine."""

from __future__ import annotations

import torch
from torch import Tensor

from atrous.core.errors import MachineError
from atrous.inference.backends.graph_backend import read_first_line
from atrous.inference.backends.torch_eager import TorchEager
from atrous.networks.contracts import Cells
from atrous.networks.segmenter import Segmenter


class TorchCompiled(TorchEager):
    """A network as a function from images to cells; see `TorchEager`.

    The first image takes many seconds, in which it is compiled for images of its size; the first of another size
    takes as long, and from then on sizes are open.
    """

    def _run(self, network: Segmenter, images: Tensor) -> Cells:
        try:
            # PyTorch keeps what it compiled with the code and the network, not with this wrapper.
            return torch.compile(network.forward_cells)(images)
        except RuntimeError as error:
            if not type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
                raise
            raise MachineError(
                f"backend 'compile' cannot compile here: {read_first_line(error)}",
                "It needs a C++ compiler, such as g++; or use another --backend.",
            ) from error
