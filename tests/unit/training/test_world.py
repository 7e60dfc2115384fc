from __future__ import annotations

import torch
import torch.multiprocessing

import gloo
from atrous.training.world import World


def test_a_process_alone_keeps_its_values():
    world, tensor = World.alone(), torch.tensor([1.0, 2.0])
    assert (world.rank, world.size, world.is_writer) == (0, 1, True)
    assert world.reduce(tensor) is tensor
    assert world.broadcast({"plan": 3}) == {"plan": 3}


def test_two_processes_add_up_and_share_values(tmp_path):
    torch.multiprocessing.spawn(gloo.work, args=(str(tmp_path),), nprocs=gloo.SIZE)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(gloo.SIZE)]
    assert [(each["rank"], each["size"], each["is_writer"]) for each in found] == [(0, 2, True), (1, 2, False)]
    assert [each["sum"] for each in found] == [3.0, 3.0]
    assert [each["own"] for each in found] == [1.0, 2.0]  # the argument of reduce is left alone
    assert [each["valid"] for each in found] == [2.0, 2.0]  # valid pixels of all processes
    assert [each["share"] for each in found] == [1.0, 1.0]
    assert [each["shared"] for each in found] == [{"steps": 10}, {"steps": 10}]
