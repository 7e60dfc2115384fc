"""Memory of a device, and whether an error says that it ran out."""

from __future__ import annotations

import torch

from atrous.core.machine import compute_free_bytes


def compute_available_bytes(device: torch.device) -> int:
    """Return the memory that is free on a device: for the CPU the least of the machine's and the container's."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return compute_free_bytes()


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, on whatever device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("DefaultCPUAllocator", "out of memory", "could not create a primitive")
    )
