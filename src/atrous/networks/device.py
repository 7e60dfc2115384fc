"""Devices: which one runs, with how many threads, how much memory it has, and whether an error says that it ran out."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from atrous.core.errors import MachineError
from atrous.core.machine import compute_free_bytes, compute_total_bytes, count_usable_cores
from atrous.core.registry import describe_choices

DEVICE_KINDS = ("cuda", "mps", "cpu")
"""Kinds of device, in the order in which auto tries them."""


def find_device(name: str, kinds: Sequence[str] = DEVICE_KINDS) -> torch.device:
    """Return a device by name; auto is the first of cuda, mps and cpu that works here and that `kinds` allows.

    Args:
        name: auto, or a device of PyTorch, such as cpu, cuda, cuda:1 or mps.
        kinds: Kinds of device that the caller can use. Default: every kind.

    Raises:
        MachineError: The device does not exist here, or its kind is not in `kinds`.
    """
    if name == "auto":
        return torch.device(next((kind for kind in list_device_kinds() if kind in kinds), "cpu"))
    failure = _find_failure(name)
    if failure is not None:
        raise MachineError(f"device {name!r} cannot be used here: {failure}", "Use device auto or cpu.")
    if torch.device(name).type not in kinds:
        raise MachineError(f"the backend does not run on {name!r} here", describe_choices(name, ["auto", *kinds]))
    return torch.device(name)


def list_device_kinds() -> tuple[str, ...]:
    """Return the kinds of device that PyTorch can use here, the best first."""
    return tuple(kind for kind in DEVICE_KINDS if _find_failure(kind) is None)


def _find_failure(name: str) -> str | None:
    """Return why a device cannot hold a tensor, in one line; None if it can."""
    try:
        torch.empty(0, device=torch.device(name))
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0]
    return None


def count_threads() -> int:
    """Return the number of threads for work on the CPU: PyTorch's, but no more than the cores this process may use."""
    return min(torch.get_num_threads(), count_usable_cores())


def compute_available_bytes(device: torch.device) -> int:
    """Return the free memory of a device in bytes; for the CPU the lesser of the machine's and the container's."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    return compute_free_bytes()


def compute_device_bytes(device: torch.device) -> int:
    """Return the total memory of a device in bytes; for the CPU the lesser of the machine's and the container's."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return compute_total_bytes()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on any device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("DefaultCPUAllocator", "out of memory", "could not create a primitive")
    )
