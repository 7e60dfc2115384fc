"""The processes that a launcher started together for one command: torchrun, srun, or the option `processes`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from atrous.core.errors import UsageError

T = TypeVar("T")

_PORTS = 15_000, 10_000
"""First port that is derived from the number of a job, and how many there are."""
_FOREIGN = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
"""Variables of mpirun, which does not say where the processes meet."""
_HINT = "Start the processes with `processes=N`, torchrun or srun, which set all that is needed."
_LIMIT = 2**32
"""No number that a launcher sets is as large."""


class Processes(Protocol):
    """The processes that share out some work, numbered from 0."""

    @property
    def rank(self) -> int:
        """Number of this process."""
        ...

    @property
    def size(self) -> int:
        """Number of processes."""
        ...

    @property
    def gather(self) -> Callable[[Any], list[Any]]:
        """What returns the values of all processes, by rank."""
        ...

    def share(self, compute: Callable[[], T]) -> T:
        """Return what a function returns in process 0, which alone calls it."""
        ...


@dataclass(frozen=True)
class Launch:
    """Which of the processes that were started together is this one.

    Args:
        rank: Number of this process, from 0 to size - 1.
        size: Number of processes, on all machines.
        address: Host of process 0, where the processes meet.
        port: Port on that host.
    """

    rank: int
    size: int
    address: str
    port: int

    def to_variables(self) -> dict[str, str]:
        """Return the variables by which `find_launch` finds this launch; torchrun sets them too."""
        return {
            "RANK": str(self.rank),
            "WORLD_SIZE": str(self.size),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
        }


def find_launch() -> Launch | None:
    """Return this process among those that were started together; None if it was started alone.

    Raises:
        UsageError: A launcher started several processes, and did not tell them where they meet, or a variable that it
            sets has a value that cannot be.
    """
    variables = os.environ
    size = _read_number(variables, "WORLD_SIZE", 1, lowest=1)
    if size > 1:
        _require(variables, "RANK", "MASTER_ADDR", "MASTER_PORT")
        rank, port = _read_number(variables, "RANK", below=size), _read_port(variables)
        return Launch(rank, size, variables["MASTER_ADDR"], port)
    if _read_number(variables, "SLURM_STEP_NUM_TASKS", 1, lowest=1) > 1:
        return _read_slurm(variables)
    for name in _FOREIGN:
        if _read_number(variables, name, 1, lowest=1) > 1:
            raise UsageError(
                f"this is one of {variables[name]} processes ({name}), which do not know where to meet",
                "Start them with `processes=N`, torchrun or srun.",
            )
    return None


def _read_slurm(variables: Mapping[str, str]) -> Launch:
    """Return the launch of srun: the processes meet on the first host of the step."""
    _require(variables, "SLURM_PROCID")
    hosts = variables.get("SLURM_STEP_NODELIST") or variables.get("SLURM_JOB_NODELIST") or "127.0.0.1"
    first, count = _PORTS
    size = _read_number(variables, "SLURM_STEP_NUM_TASKS")
    job, step = (_read_number(variables, name) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    return Launch(
        _read_number(variables, "SLURM_PROCID", below=size),
        size,
        variables.get("MASTER_ADDR") or find_first_host(hosts),
        _read_port(variables, first + (job + step) % count),
    )


def find_first_host(hosts: str) -> str:
    """Return the first host of a list in SLURM's form.

    Args:
        hosts: Such as "node[07-09,12],other3", whose first host is "node07".
    """
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", hosts).split(",")[0]


def _require(variables: Mapping[str, str], *names: str) -> None:
    missing = [name for name in names if not variables.get(name)]
    if missing:
        raise UsageError(f"this is one of several processes, and {', '.join(missing)} is not set", _HINT)


def _read_number(
    variables: Mapping[str, str], name: str, default: int = 0, *, lowest: int = 0, below: int = _LIMIT
) -> int:
    """Return the number in a variable; of one that is empty or not set the default."""
    text = variables.get(name) or str(default)
    if text.isdecimal() and len(text) <= len(str(_LIMIT)) and lowest <= int(text) < below:
        return int(text)
    allowed = f"a whole number from {lowest} to {below - 1}"
    raise UsageError(f"the variable {name} is {text[:99]!r}, and has to be {allowed}", _HINT)


def _read_port(variables: Mapping[str, str], default: int = 0) -> int:
    return _read_number(variables, "MASTER_PORT", default, lowest=1, below=2**16)
