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
        UsageError: A launcher started several processes, and did not tell them where they meet.
    """
    variables = os.environ
    if _read_size(variables, "WORLD_SIZE") > 1:
        needed = ("RANK", "MASTER_ADDR", "MASTER_PORT")
        missing = [name for name in needed if not variables.get(name)]
        if missing:
            raise UsageError(
                f"WORLD_SIZE is {variables['WORLD_SIZE']}, and {', '.join(missing)} is not set",
                "Start the processes with `processes=N`, torchrun or srun, which set all of them.",
            )
        rank, port = int(variables["RANK"]), int(variables["MASTER_PORT"])
        return Launch(rank, int(variables["WORLD_SIZE"]), variables["MASTER_ADDR"], port)
    if _read_size(variables, "SLURM_STEP_NUM_TASKS") > 1:
        return _read_slurm(variables)
    for name in _FOREIGN:
        if _read_size(variables, name) > 1:
            raise UsageError(
                f"this is one of {variables[name]} processes ({name}), which do not know where to meet",
                "Start them with `processes=N`, torchrun or srun.",
            )
    return None


def _read_slurm(variables: Mapping[str, str]) -> Launch:
    """Return the launch of srun: the processes meet on the first host of the step."""
    hosts = variables.get("SLURM_STEP_NODELIST") or variables.get("SLURM_JOB_NODELIST") or "127.0.0.1"
    first, count = _PORTS
    job, step = (int(variables.get(name) or 0) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    return Launch(
        int(variables["SLURM_PROCID"]),
        int(variables["SLURM_STEP_NUM_TASKS"]),
        variables.get("MASTER_ADDR") or find_first_host(hosts),
        int(variables.get("MASTER_PORT") or first + (job + step) % count),
    )


def find_first_host(hosts: str) -> str:
    """Return the first host of a list in SLURM's form.

    Args:
        hosts: Such as "node[07-09,12],other3", whose first host is "node07".
    """
    return re.sub(r"\[(\w+)[^\]]*\]", r"\1", hosts).split(",")[0]


def _read_size(variables: Mapping[str, str], name: str) -> int:
    text = variables.get(name, "")
    return int(text) if text.isdecimal() else 1
