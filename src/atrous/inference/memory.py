"""How much memory a forward pass needs and may take, and the window that fits if a whole image does not."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from atrous.core.errors import MachineError
from atrous.networks.device import compute_device_bytes
from atrous.networks.segmenter import Segmenter

PROBE_SIDE = 129
WORKSPACE_FACTOR = 2.0
"""Memory of a forward pass / that of its tensors. The rest: copies in other layouts, buffers of convolutions, gaps."""
LARGEST_WINDOW, SMALLEST_WINDOW = 1025, 129
USABLE_FRACTION = 0.5
"""Share of a device's total memory that a forward pass may take. The rest is for the system, the weights and images."""


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the tensors that operations create, and records the peak of their bytes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._alive = {key: kept for key, kept in self._alive.items() if not kept[0].expired()}  # type: ignore[no-untyped-call]
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self._alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())  # type: ignore[no-untyped-call]
        self.peak = max(self.peak, sum(size for _, size in self._alive.values()))
        return result


@torch.no_grad()
def measure_bytes_per_pixel(network: Segmenter, device: torch.device) -> float:
    """Return how many bytes a forward pass needs for each pixel of the image, measured on a small image.

    Args:
        network: The network, in evaluation mode.
        device: The device of the network.
    """
    image = network.make_blank(1, PROBE_SIDE, PROBE_SIDE).to(device)
    with _LiveBytes() as live:
        network.forward_cells(image)
    return float(WORKSPACE_FACTOR * live.peak / PROBE_SIDE**2)


def compute_budget_mib(device: torch.device) -> int:
    """Return the memory in MiB that a forward pass may take on a device.

    It is a share of the total memory, not of what is free at the moment, since the budget decides whether an image is
    labelled whole or in windows, and equal images must get equal labels.
    """
    return int(USABLE_FRACTION * compute_device_bytes(device)) // 2**20


def count_fitting_pixels(scale: float, bytes_per_pixel: float, budget_mib: int) -> int:
    """Return the pixels of the largest image whose forward pass fits in a memory budget.

    Args:
        scale: The largest scale at which the network sees it.
        bytes_per_pixel: What a forward pass needs, see `measure_bytes_per_pixel`.
        budget_mib: The budget in MiB, see `compute_budget_mib`.
    """
    return int(budget_mib * 2**20 / (bytes_per_pixel * max(scale, 1.0) ** 2))


def choose_window(height: int, width: int, fitting: int) -> int | None:
    """Return None if a whole image fits in memory, else the side of a window that does, 32k + 1 pixels.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        fitting: Pixels of the largest image that fits, see `count_fitting_pixels`.
    Raises:
        MachineError: Not even a small window fits.
    """
    if height * width <= fitting:
        return None
    window = min((math.isqrt(fitting) - 1) // 32 * 32 + 1, LARGEST_WINDOW)
    if window < SMALLEST_WINDOW:
        raise MachineError(
            f"the memory budget allows windows of {fitting:,} pixels, fewer than {SMALLEST_WINDOW} x {SMALLEST_WINDOW}",
            "Choose a larger output stride, smaller scales or a smaller model.",
        )
    return window
