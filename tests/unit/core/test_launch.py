from __future__ import annotations

import pytest

from atrous.core.errors import UsageError
from atrous.core.launch import Launch, find_first_host, find_launch

NAMES = (
    *("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"),
    *("SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST"),
    *("SLURM_JOB_ID", "SLURM_STEP_ID"),
)
SLURM = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_JOB_ID": "1234567", "SLURM_STEP_ID": "2"}


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def set_variables(monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_a_process_that_was_started_alone_is_found_as_such(monkeypatch):
    assert find_launch() is None
    # A batch script of SLURM is one process, however many tasks its job has.
    set_variables(monkeypatch, {"WORLD_SIZE": "1", "SLURM_NTASKS": "8", "PMI_SIZE": "1"})
    assert find_launch() is None


def test_the_variables_of_a_launch_find_it_again(monkeypatch):
    launch = Launch(1, 2, "127.0.0.1", 29500)
    set_variables(monkeypatch, launch.to_variables())
    assert find_launch() == launch


def test_processes_of_srun_meet_on_the_first_host_at_a_port_of_their_step(monkeypatch):
    set_variables(monkeypatch, SLURM | {"SLURM_STEP_NODELIST": "gpu[07-09,12],other3"})
    assert find_launch() == Launch(3, 4, "gpu07", 15_000 + 4_569)
    set_variables(monkeypatch, {"MASTER_ADDR": "there", "MASTER_PORT": "1234"})
    assert find_launch() == Launch(3, 4, "there", 1234)


@pytest.mark.parametrize(
    ("hosts", "first"), [("a", "a"), ("a,b", "a"), ("n[3,5-7]", "n3"), ("n[01-04],m", "n01"), ("x[2]-ib,y", "x2-ib")]
)
def test_the_first_host_of_a_list(hosts, first):
    assert find_first_host(hosts) == first


@pytest.mark.parametrize("name", ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"])
def test_processes_that_do_not_know_where_to_meet_are_refused(monkeypatch, name):
    monkeypatch.setenv(name, "2")
    with pytest.raises(UsageError, match=f"one of 2 processes \\({name}\\)"):
        find_launch()


def test_a_launch_without_its_address_names_what_is_missing(monkeypatch):
    set_variables(monkeypatch, {"WORLD_SIZE": "2", "RANK": "0"})
    with pytest.raises(UsageError, match="MASTER_ADDR, MASTER_PORT is not set"):
        find_launch()
    set_variables(monkeypatch, {"WORLD_SIZE": "", "SLURM_STEP_NUM_TASKS": "2"})
    with pytest.raises(UsageError, match="SLURM_PROCID is not set"):
        find_launch()


TORCHRUN = {"WORLD_SIZE": "4", "RANK": "3", "MASTER_ADDR": "there", "MASTER_PORT": "1234"}


@pytest.mark.parametrize("value", ["two", "-1", "1.0", " 1", "1_0", "²", "9" * 5000, "4294967296"])
@pytest.mark.parametrize(
    ("variables", "name"),
    [(TORCHRUN, name) for name in ("WORLD_SIZE", "RANK", "MASTER_PORT")]
    + [(SLURM | {"MASTER_PORT": "1234"}, name) for name in (*SLURM, "MASTER_PORT")]
    + [({}, name) for name in ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")],
)
def test_a_variable_that_holds_no_number_is_named_with_what_is_allowed(monkeypatch, variables, name, value):
    set_variables(monkeypatch, variables | {name: value})
    with pytest.raises(
        UsageError, match=rf"the variable {name} is '.*', and has to be a whole number from \d to \d+\n"
    ):
        find_launch()


@pytest.mark.parametrize(
    ("variables", "name", "value", "allowed"),
    [
        (TORCHRUN, "RANK", "4", "from 0 to 3"),
        (SLURM, "SLURM_PROCID", "4", "from 0 to 3"),
        (TORCHRUN, "WORLD_SIZE", "0", "from 1 to 4294967295"),
        (SLURM, "SLURM_STEP_NUM_TASKS", "0", "from 1 to 4294967295"),
        (TORCHRUN, "MASTER_PORT", "0", "from 1 to 65535"),
        (SLURM, "MASTER_PORT", "65536", "from 1 to 65535"),
    ],
)
def test_a_number_that_cannot_be_is_refused(monkeypatch, variables, name, value, allowed):
    set_variables(monkeypatch, variables | {name: value})
    with pytest.raises(UsageError, match=f"the variable {name} is '{value}', and has to be a whole number {allowed}\n"):
        find_launch()
