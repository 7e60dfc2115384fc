"""Lightning's Fabric of a training: device, precision, and the wrapping of a network that several processes train."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.strategies.ddp import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from atrous.config.schema import Config
from atrous.inference.precision import computes_bf16
from atrous.training.world import World, find_own_device


def build_fabric(config: Config, world: World | None = None) -> Fabric:
    """Build Lightning's Fabric for the device and the precision of the run.

    Args:
        config: All settings.
        world: The processes that train together; each has a device of its own, but for those on a CPU. Default: one.
    Raises:
        MachineError: The device is missing, or there are fewer devices than processes.
    """
    world = world or World.alone()
    device = find_own_device(config.output.device, world)
    precision = choose_precision(config, device)
    strategy = _build_strategy(world) if world.size > 1 else "auto"
    with _quiet_lightning():
        fabric = Fabric(
            accelerator=device.type,
            devices=1 if device.index is None else [device.index],
            num_nodes=world.size,  # for Fabric, each process is a machine with a single device
            strategy=strategy,
            precision="bf16-mixed" if precision == "bf16" else "32-true",
        )
        if world.size > 1:
            fabric.launch()
    return fabric


def choose_precision(config: Config, device: torch.device) -> str:
    """Return the precision of a training, bf16 or fp32.

    Args:
        config: All settings.
        device: Where the network is trained.
    """
    precision = config.training.precision
    if precision == "auto":
        return "bf16" if computes_bf16(device.type) else "fp32"
    return precision


def _build_strategy(world: World) -> DDPStrategy:
    """Return what averages gradients; buffers are statistics of norms, which all processes compute alike."""
    known = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"  # its former name
    options: dict[str, Any] = {name: False}
    return DDPStrategy(cluster_environment=_Met(world), **options)


class _Met(ClusterEnvironment):
    """Tells Fabric that the processes exist and have met: each is the only one of a machine of its own.

    Args:
        world: The processes.
    """

    creates_processes_externally = True
    main_address = "127.0.0.1"  # neither address nor port is used once the processes have met
    main_port = 0

    def __init__(self, world: World) -> None:
        self._world = world

    @staticmethod
    def detect() -> bool:
        """Never choose this environment automatically."""
        return False

    def world_size(self) -> int:
        """Return the number of processes."""
        return self._world.size

    def set_world_size(self, size: int) -> None:
        """Keep the number: it is known."""

    def global_rank(self) -> int:
        """Return the number of this process."""
        return self._world.rank

    def set_global_rank(self, rank: int) -> None:
        """Keep the number: it is known."""

    def local_rank(self) -> int:
        """Return 0: each process has one device."""
        return 0

    def node_rank(self) -> int:
        """Return the number of this process."""
        return self._world.rank


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's remark about the precision, which the journal reports."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
