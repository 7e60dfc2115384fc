"""The processes of a training: how many there are, and how they add values up and share them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.distributed
from torch import Tensor


@dataclass(frozen=True)
class World:
    """The processes that train one network in step. Runs have a single one: they do not share out their images yet.

    Whatever depends on the other processes goes through this object, so the code of one process and of many is the
    same. `reduce` and `broadcast` are collective: every process calls them, in the same order. A process whose share of
    the work is empty contributes zeros.

    Args:
        rank: Number of this process, from 0 to size - 1.
        size: Number of processes.
        reduce: Takes a tensor and returns its sum over all processes, to each of them.
        broadcast: Takes a value that can be pickled and returns that of rank 0.
    """

    rank: int
    size: int
    reduce: Callable[[Tensor], Tensor]
    broadcast: Callable[[Any], Any]

    @property
    def is_writer(self) -> bool:
        """Whether this process writes the files of the run."""
        return self.rank == 0

    @classmethod
    def alone(cls) -> World:
        """Return the world of a single process."""
        return cls(0, 1, lambda tensor: tensor, lambda value: value)

    @classmethod
    def of_process_group(cls) -> World:
        """Return the world of torch.distributed's default process group, which must have been initialised."""
        return cls(torch.distributed.get_rank(), torch.distributed.get_world_size(), _sum_tensors, _share_value)


def _sum_tensors(tensor: Tensor) -> Tensor:
    total = tensor.clone()
    torch.distributed.all_reduce(total)
    return total


def _share_value(value: Any) -> Any:
    values = [value]
    torch.distributed.broadcast_object_list(values, src=0)
    return values[0]
