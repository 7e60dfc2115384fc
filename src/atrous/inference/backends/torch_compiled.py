"""Runs a network in PyTorch, compiled for this machine."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from atrous.core.errors import MachineError
from atrous.core.system_errors import describe_reason
from atrous.inference.backends.torch_eager import TorchEager
from atrous.networks.contracts import Cells
from atrous.networks.device import list_device_kinds

_OPTIONS: dict[str, Any] = (
    {"recompile_limit": 256} if "recompile_limit" in inspect.signature(torch.compile).parameters else {}
)
"""PyTorch's own limit is 8 for all networks, output strides and sizes of a process; whatever comes after that would run
uncompiled, without an error. Older versions of PyTorch do not have the option."""


class TorchCompiled(TorchEager):
    """A network as a function from images to cells; see `TorchEager`.

    The first image takes many seconds, during which the network is compiled for its size. The first image of another
    size takes as long again, and compiles the network for every size.
    """

    @staticmethod
    def list_devices() -> tuple[str, ...]:
        """Return the kinds of device that the backend can use here, the best first."""
        return tuple(kind for kind in list_device_kinds() if kind != "mps")  # PyTorch's compiler for it is young

    def _run(self, images: Tensor) -> Cells:
        try:
            # PyTorch keeps compiled code with the function and the network, not with this wrapper.
            return torch.compile(self._network.forward_cells, **_OPTIONS)(images)
        except RuntimeError as error:
            if not type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
                raise
            raise MachineError(
                f"backend 'compile' cannot compile here: {describe_reason(error)}",
                "It needs a C++ compiler, such as g++; or use another `backend`.",
            ) from error
