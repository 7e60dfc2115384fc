from __future__ import annotations

import re
import socket
from datetime import timedelta
from pathlib import Path

import pytest
import torch

import gloo
from atrous.core.errors import MachineError
from atrous.core.launch import Launch
from atrous.training import world as world_module
from atrous.training.world import World, is_lost_connection, open_world
from compared import assert_same_runs


def test_a_process_alone_keeps_its_values():
    world, tensor = World.alone(), torch.tensor([1.0, 2.0])
    assert (world.rank, world.size, world.is_writer) == (0, 1, True)
    assert world.reduce(tensor) is tensor
    assert world.broadcast({"plan": 3}) == {"plan": 3}
    assert world.gather("own") == ["own"]
    assert world.share(lambda: 5) == 5
    assert world.any(True)
    assert not world.any(False)


def test_two_processes_add_up_and_share_values(two_processes):
    found = two_processes
    assert [(each["rank"], each["size"], each["is_writer"]) for each in found] == [(0, 2, True), (1, 2, False)]
    assert [each["local"] for each in found] == [(0, 2), (1, 2)]
    assert [each["sum"] for each in found] == [3.0, 3.0]
    assert [each["own"] for each in found] == [1.0, 2.0]  # the argument of reduce is left alone
    assert [each["valid"] for each in found] == [2.0, 2.0]  # valid pixels of all processes
    assert [each["share"] for each in found] == [1.0, 1.0]
    assert [each["shared"] for each in found] == [{"steps": 10}, {"steps": 10}]
    assert [each["computed"] for each in found] == [7, 7]
    assert [each["gathered"] for each in found] == [["process 0", "process 1"]] * gloo.SIZE
    assert [each["any"] for each in found] == [(True, False)] * gloo.SIZE


def test_a_plan_by_minutes_is_decided_once(two_processes):
    """Each process times its own steps, and the clock of the second one runs an hour ahead."""
    first, second = (each["plan"] for each in two_processes)
    assert first == second
    assert first["total_steps"] > 100


def test_processes_that_a_program_has_spawned_train_together(two_processes):
    first, second = (each["run"] for each in two_processes)
    assert first == second
    assert first["images"] == 3
    assert first["steps"] == 2


def test_a_run_that_two_processes_continue_is_bit_equal_to_a_whole_one(two_processes):
    folder = Path(two_processes[0]["folder"])
    assert two_processes[0]["stopped"] == 3  # after the step in which the first process received a signal
    assert_same_runs(folder / "whole", folder / "parts")
    assert "resumed after step 3" in (folder / "parts" / "log.txt").read_text()


def test_in_a_single_process_no_error_is_taken_for_the_end_of_another():
    assert not is_lost_connection(RuntimeError("connection to the tracker was refused"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("address", ["no-such-host.invalid", "127.0.0.1", "::1"])
def test_a_process_that_does_not_meet_the_others_says_where(monkeypatch, address):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        launch = Launch(1, 2, address, free.getsockname()[1])
    monkeypatch.setattr(world_module, "MEETING_WAIT", timedelta(seconds=2))
    for name, value in launch.to_variables().items():
        monkeypatch.setenv(name, value)
    place = re.escape(f"[{address}]" if ":" in address else address)
    where = f"process 1 of 2 does not meet the others at {place}:{launch.port}: ."
    with pytest.raises(MachineError, match=where) as caught, open_world():
        pass
    assert "Set MASTER_ADDR and MASTER_PORT" in caught.value.hint
