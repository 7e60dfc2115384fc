"""One of two processes that meet over gloo: in a module of its own, which a spawned process can import."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed

from atrous.core.labels import IGNORE_INDEX
from atrous.losses.contracts import count_weight
from atrous.training.world import World

SIZE = 2


def work(rank: int, folder: str) -> None:
    """Do what each process does, and write what it found to a file."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=SIZE)
    try:
        world = World.of_process_group()
        own = torch.tensor([1.0 + rank])
        labels = torch.tensor([[[0, 1, IGNORE_INDEX]], [[IGNORE_INDEX, IGNORE_INDEX, IGNORE_INDEX]]])[rank]
        share = list(range(1))[rank :: world.size]  # that of rank 1 is empty
        found = {
            "rank": world.rank,
            "size": world.size,
            "is_writer": world.is_writer,
            "sum": world.reduce(own).item(),
            "own": own.item(),
            "valid": world.reduce(count_weight(labels)).item(),
            "share": world.reduce(torch.tensor(float(len(share)))).item(),
            "shared": world.broadcast({"steps": 10 + rank}),
        }
        torch.save(found, Path(folder) / f"{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()
