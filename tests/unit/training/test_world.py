from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed
import torch.multiprocessing

from atrous.core.labels import IGNORE_INDEX
from atrous.losses.contracts import count_weight
from atrous.training.world import World

SIZE = 2


def test_a_process_alone_keeps_its_values():
    world, tensor = World.alone(), torch.tensor([1.0, 2.0])
    assert (world.rank, world.size, world.is_writer) == (0, 1, True)
    assert world.reduce(tensor) is tensor
    assert world.broadcast({"plan": 3}) == {"plan": 3}


def work(rank: int, folder: str) -> None:
    """What each of two processes does; its findings go to a file."""
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


def test_two_processes_add_up_and_share_values(tmp_path):
    torch.multiprocessing.spawn(work, args=(str(tmp_path),), nprocs=SIZE)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(SIZE)]
    assert [(each["rank"], each["size"], each["is_writer"]) for each in found] == [(0, 2, True), (1, 2, False)]
    assert [each["sum"] for each in found] == [3.0, 3.0]
    assert [each["own"] for each in found] == [1.0, 2.0]  # the argument of reduce is left alone
    assert [each["valid"] for each in found] == [2.0, 2.0]  # valid pixels of all processes
    assert [each["share"] for each in found] == [1.0, 1.0]
    assert [each["shared"] for each in found] == [{"steps": 10}, {"steps": 10}]
