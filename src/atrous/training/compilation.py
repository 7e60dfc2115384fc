"""The compiled network of a training step, and whether this machine can compile."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from atrous.core.errors import MachineError
from atrous.networks.contracts import Cells
from atrous.networks.segmenter import Segmenter


def compile_cells(network: Segmenter, *, backend: str = "inductor") -> Callable[[Tensor], Cells]:
    """Return the network's `forward_cells`, compiled at its first call and again for each new stride or size.

    A function beside the network is compiled, so the module and the names of its tensors in checkpoints and model files
    stay as they are. The loss is not compiled: it is a loop over bands that already fits the cache.

    Args:
        network: The network; its output stride may change at any time.
        backend: Backend of torch.compile.
    Shapes:
        The function takes (B, C, H, W) images, as the network does.
    """

    def forward_cells(images: Tensor) -> Cells:
        return network.forward_cells(images)

    # PyTorch counts the versions of a code object and gives up after eight, so each network gets a code object of its
    # own. Clearing the count with torch.compiler.reset() would discard what the caller has compiled.
    forward_cells.__code__ = forward_cells.__code__.replace()
    compiled: Callable[[Tensor], Cells] = torch.compile(forward_cells, backend=backend, dynamic=False)
    return compiled


def require_compiler(device: torch.device) -> None:
    """Compile a small function for the device, and refuse a machine on which that fails.

    Raises:
        MachineError: No compiler, no Triton on a GPU, or another obstacle, which the message names.
    """
    try:
        # Without the cache on disk, which may hold this function from an earlier run.
        torch.compile(torch.expm1, options={"fx_graph_cache": False})(torch.ones(8, device=device))
    except (RuntimeError, OSError, ImportError) as error:
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise MachineError(
            f"training.compile: this machine cannot compile for {device.type}: {reason}",
            "Install a C++ compiler such as g++ (and, for a GPU, Triton), or switch training.compile off.",
        ) from error
