"""The network of a training step, compiled beside the living one; and whether this machine can compile at all."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from atrous.core.errors import MachineError
from atrous.networks.contracts import Cells
from atrous.networks.segmenter import Segmenter


def compile_cells(network: Segmenter, *, backend: str = "inductor") -> Callable[[Tensor], Cells]:
    """Return the network's `forward_cells`, compiled when it is first called, and again for other strides or sizes.

    What is compiled is a function beside the network: the module stays as it is, and so do the names of its tensors in
    checkpoints and model files. The loss is left out: it is a loop over bands that is written for the cache already.

    Args:
        network: What is run; its output stride may change at any time.
        backend: What compiles, by torch.compile's names.
    """
    torch.compiler.reset()  # it gives up after eight versions of a function, earlier networks' among them
    compiled: Callable[[Tensor], Cells] = torch.compile(network.forward_cells, backend=backend, dynamic=False)
    return compiled


def require_compiler(device: torch.device) -> None:
    """Refuse a machine that cannot compile, by compiling one small function for the device.

    Raises:
        MachineError: No compiler, no Triton on a GPU, or another obstacle, which is named.
    """
    try:
        # Not from the cache on disk, where an earlier run may have left this function.
        torch.compile(torch.expm1, options={"fx_graph_cache": False})(torch.ones(8, device=device))
    except (RuntimeError, OSError, ImportError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise MachineError(
            f"training.compile: this machine cannot compile for {device.type}: {reason}",
            "Install a C++ compiler such as g++ (and, for a GPU, Triton), or leave training.compile out.",
        ) from error
