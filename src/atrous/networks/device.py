"""Devices: which one runs, with how many threads, and how much memory it has."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import torch

from atrous.core.errors import ConfigError, MachineError
from atrous.core.machine import compute_free_bytes, compute_total_bytes, count_usable_cores
from atrous.core.registry import describe_choices
from atrous.core.words import describe_count

DEVICE_KINDS = ("cuda", "mps", "cpu")
"""Kinds of device, in the order in which auto tries them."""
_NAMES = ("cpu", "cuda", "cuda:1", "mps")


def find_device(name: str, kinds: Sequence[str] = DEVICE_KINDS) -> torch.device:
    """Return a device by name; auto is the first of cuda, mps and cpu that works here and that `kinds` allows.

    Args:
        name: auto, or a device of PyTorch, such as cpu, cuda, cuda:1 or mps.
        kinds: Kinds of device that the caller can use. Default: every kind.

    Raises:
        ConfigError: There is no such name, or a number after cpu or mps, of which there is one.
        MachineError: The device does not exist here, or its kind is not in `kinds`.
    """
    if name == "auto":
        return torch.device(next((kind for kind in list_device_kinds() if kind in kinds), "cpu"))
    kind, colon, number = name.partition(":")
    if kind not in DEVICE_KINDS or (colon and not (kind == "cuda" and number.isascii() and number.isdecimal())):
        raise ConfigError(f"unknown device {name!r}", describe_choices(name, ["auto", *_NAMES]))
    failure = find_failure(name)
    if failure is not None:
        raise MachineError(f"device {name!r} cannot be used here: {failure}", "Use device auto or cpu.")
    if kind not in kinds:
        raise MachineError(f"the backend does not run on {name!r} here", describe_choices(name, ["auto", *kinds]))
    return torch.device(name)


def list_device_kinds() -> tuple[str, ...]:
    """Return the kinds of device that PyTorch can use here, the best first."""
    return tuple(kind for kind in DEVICE_KINDS if find_failure(kind) is None)


def find_failure(name: str) -> str | None:
    """Return why a device cannot hold a tensor, in a few words; None if it can.

    Args:
        name: A device of PyTorch, such as cpu, cuda, cuda:1 or mps.
    """
    kind, _, number = name.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" and number else 0
    if count and int(number) >= count:
        return f"this machine has {describe_count(count, 'CUDA device')}, counted from 0"
    if kind == "mps" and not torch.backends.mps.is_available():
        return "PyTorch finds no Apple GPU"
    try:
        torch.empty(0, device=torch.device(name))
    except (RuntimeError, AssertionError) as error:  # a driver that is too old, or a GPU that is in use or unknown
        return textwrap.shorten(str(error), 200, placeholder=" ...")
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
