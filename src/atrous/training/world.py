"""The processes of a training: how many there are, and how they add values up, share them, and end together."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed
from torch import Tensor

from atrous.core.errors import AtrousError, MachineError, OtherProcessFailed
from atrous.core.launch import Launch, find_launch
from atrous.core.words import describe_count
from atrous.networks.device import find_device

T = TypeVar("T")

WAIT = timedelta(days=2)
"""How long processes wait for one that still works, such as on a first look at all images; a dead one is noticed."""
MEETING_WAIT = timedelta(minutes=10)
"""How long a process waits for the others to start."""
_CLAIM_S = 5
_FAILED_KEY = "atrous_failed"


@dataclass(frozen=True)
class World:
    """The processes that train one network in step.

    Whatever depends on the other processes goes through this object, so the code of one process and of many is the
    same. `reduce`, `broadcast`, `gather`, `share` and `any` are collective: every process calls them, in the same
    order. A process whose share of the work is empty contributes zeros.

    Args:
        rank: Number of this process, from 0 to size - 1.
        size: Number of processes.
        reduce: Takes a tensor and returns its sum over all processes, to each of them.
        broadcast: Takes a value that can be pickled and returns that of rank 0.
        gather: Takes a value that can be pickled and returns those of all processes, by rank.
        local_rank: Number of this process among those on the same machine.
        local_size: Number of processes on the same machine.
    """

    rank: int
    size: int
    reduce: Callable[[Tensor], Tensor]
    broadcast: Callable[[Any], Any]
    gather: Callable[[Any], list[Any]]
    local_rank: int = 0
    local_size: int = 1

    @property
    def is_writer(self) -> bool:
        """Whether this process writes the files of the run, and what people read of it."""
        return self.rank == 0

    def share(self, compute: Callable[[], T]) -> T:
        """Return what a function returns in the writer, which alone calls it."""
        value: T = self.broadcast(compute() if self.is_writer else None)
        return value

    def any(self, flag: bool) -> bool:
        """Return whether a flag is set in any process."""
        return bool(self.reduce(torch.tensor(int(flag))).item())

    @classmethod
    def alone(cls) -> World:
        """Return the world of a single process."""
        return cls(0, 1, lambda tensor: tensor, lambda value: value, lambda value: [value])

    @classmethod
    def of_process_group(cls) -> World:
        """Return the world of torch.distributed's default process group, which must have been initialised."""
        rank, size = torch.distributed.get_rank(), torch.distributed.get_world_size()
        hosts = _gather_values(socket.gethostname())
        same = [number for number, host in enumerate(hosts) if host == hosts[rank]]
        return cls(rank, size, _sum_tensors, _share_value, _gather_values, same.index(rank), len(same))


@contextmanager
def open_world() -> Iterator[World]:
    """Meet the other processes that a launcher started together with this one, and end with them.

    The processes of torchrun, of srun and of the option `processes` are found by their variables. Where the caller has
    initialised torch.distributed, as in a function that torch.multiprocessing.spawn calls, its default group is used.

    If one process fails, all do: the first to fail raises its error, the others `OtherProcessFailed`.

    Raises:
        MachineError: The processes do not find each other, or another one has died.
        OtherProcessFailed: Another process failed first.
    """
    is_callers = torch.distributed.is_available() and torch.distributed.is_initialized()
    launch = None if is_callers else find_launch()
    if launch is not None:
        _meet(launch)
    elif not is_callers:
        yield World.alone()
        return
    try:
        with _failing_together():
            yield World.of_process_group()
    finally:
        if not is_callers:
            torch.distributed.destroy_process_group()


def find_own_device(name: str, world: World) -> torch.device:
    """Return the device of this process: of several CUDA devices the one of its number on this machine.

    Args:
        name: auto, or a device of PyTorch.
        world: The processes, which all call this.
    Raises:
        ConfigError: There is no such name.
        MachineError: The device does not exist here, or there are fewer devices than processes.
    """
    device = find_device(name)
    if world.size == 1 or device.type == "cpu":
        return device
    processes = describe_count(world.size, "process")
    if device.type != "cuda" or device.index is not None:
        raise MachineError(
            f"{processes} cannot share the device {name!r}",
            "Use device cuda, of which each process takes one of its own, or cpu.",
        )
    count = torch.cuda.device_count()  # 1 where a scheduler shows each process its own device alone
    device = torch.device("cuda", world.local_rank % count)
    every = world.gather(str(torch.cuda.get_device_properties(device).uuid))
    num_devices = len(set(every))
    if num_devices < len(every):
        raise MachineError(
            f"{processes} have {describe_count(num_devices, 'CUDA device')}, and each needs its own",
            f"Start {describe_count(num_devices, 'process')}.",
        )
    return device


def _meet(launch: Launch) -> None:
    if not torch.distributed.is_available():
        raise MachineError("this build of PyTorch cannot connect processes", "Train in a single process.")
    from torch.distributed.rendezvous import rendezvous

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and torch.distributed.is_nccl_available() else "gloo"
    host = launch.address.strip("[]")
    where = f"[{host}]:{launch.port}" if ":" in host else f"{host}:{launch.port}"
    try:
        socket.getaddrinfo(host, launch.port)  # torch would try an unknown host until the time is up
        store, rank, size = next(rendezvous(f"tcp://{where}", launch.rank, launch.size, timeout=MEETING_WAIT))
        store.set_timeout(WAIT)
        torch.distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=WAIT)
    except (RuntimeError, ValueError, OSError) as error:
        raise MachineError(
            f"process {launch.rank} of {launch.size} does not meet the others at {where}: {str(error).splitlines()[0]}",
            "Set MASTER_ADDR and MASTER_PORT to a host and a free port that all of them can reach.",
        ) from error


@contextmanager
def _failing_together() -> Iterator[None]:
    """Let one process alone report a failure of all: the first, by an entry in the store where the processes met."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        rank = torch.distributed.get_rank()
        if not _claim(rank):
            raise OtherProcessFailed("another process of this command failed, and has reported why") from error
        if not isinstance(error, AtrousError) and is_lost_connection(error):
            died = MachineError(
                f"process {rank} of {torch.distributed.get_world_size()} has lost the others: one of them has died",
                "It may have been killed for its memory: look for a smaller `batch`, or fewer processes.",
            )
            for note in getattr(error, "__notes__", ()):
                died.add_note(note)
            raise died from error
        raise


def _claim(rank: int) -> bool:
    """Return whether this process is the first that failed; False where the store has gone with its process."""
    store = torch.distributed.distributed_c10d._get_default_store()
    try:
        store.set_timeout(timedelta(seconds=_CLAIM_S))
        return bool(store.compare_set(_FAILED_KEY, "", str(rank)).decode() == str(rank))
    except RuntimeError:
        return False


def is_lost_connection(error: BaseException) -> bool:
    """Return whether an exception means that another process can no longer be reached; False in a single process."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    if isinstance(error, torch.distributed.DistError):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in words for word in ("gloo", "nccl", "connection"))


def _sum_tensors(tensor: Tensor) -> Tensor:
    total = tensor.clone()
    torch.distributed.all_reduce(total)
    return total


def _share_value(value: Any) -> Any:
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]


def _gather_values(value: Any) -> list[Any]:
    values: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values
