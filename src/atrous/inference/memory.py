"""How much memory a forward pass needs, how much there is, and the window that fits where a whole picture does not."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from atrous.core.errors import MachineError
from atrous.networks.segmenter import Segmenter

PROBE_SIDE = 129
WORKSPACE_FACTOR = 2.0
"""Memory of a forward pass / that of its tensors: copies in other layouts, buffers of convolutions, gaps."""
USABLE_FRACTION = 0.6
"""Share of the free memory that a forward pass may take."""
LARGEST_WINDOW, SMALLEST_WINDOW = 1025, 129
_CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the tensors that operations make, and remembers the most bytes that were alive at once."""

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
    """Return how many bytes a forward pass needs for each pixel of the picture, from one on a small picture.

    Args:
        network: The network, in evaluation mode.
        device: Where it lies.
    """
    picture = torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE, dtype=torch.uint8, device=device)
    with _LiveBytes() as live:
        network.forward_cells(picture)
    return float(WORKSPACE_FACTOR * live.peak / PROBE_SIDE**2)


def compute_available_bytes(device: torch.device) -> int:
    """Return the memory that is free on a device: for the CPU the least of the machine's and the container's."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    free = [_read_machine_bytes()]
    for limit_file, usage_file in _CGROUP_FILES:
        limit, usage = _read_number(Path(limit_file)), _read_number(Path(usage_file))
        if limit is not None and usage is not None:
            free.append(max(limit - usage, 0))
    return min(free)


def _read_machine_bytes() -> int:
    table = Path("/proc/meminfo")
    if table.exists():
        for line in table.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _read_number(path: Path) -> int | None:
    """Read a file of one number; None where there is no such file, or it says "max"."""
    text = path.read_text(encoding="ascii").strip() if path.exists() else ""
    return int(text) if text.isdigit() else None


def count_fitting_pixels(scale: float, bytes_per_pixel: float, available: int) -> int:
    """Return the pixels of the largest picture whose forward pass fits in memory.

    Args:
        scale: The largest scale at which the network sees it.
        bytes_per_pixel: What a forward pass needs, see `measure_bytes_per_pixel`.
        available: Free bytes.
    """
    return int(USABLE_FRACTION * available / (bytes_per_pixel * max(scale, 1.0) ** 2))


def choose_window(height: int, width: int, fitting: int) -> int | None:
    """Return None where a whole picture fits in memory, else the side of a window that does, of 32k + 1 pixels.

    Args:
        height: The picture's, in pixels.
        width: The picture's, in pixels.
        fitting: Pixels of the largest picture that fits.
    Raises:
        MachineError: Not even a small window fits.
    """
    if height * width <= fitting:
        return None
    window = min((math.isqrt(fitting) - 1) // 32 * 32 + 1, LARGEST_WINDOW)
    if window < SMALLEST_WINDOW:
        raise MachineError(
            f"the free memory holds windows of {fitting:,} pixels, too few to label a picture with",
            "Close other programs, or choose a larger output stride, smaller scales or a smaller model.",
        )
    return window


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, on whatever device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("DefaultCPUAllocator", "out of memory", "could not create a primitive")
    )
