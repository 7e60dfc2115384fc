"""Lightning's Fabric of a training: device, precision, and the wrapping of a network that several processes train."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning.fabric import Fabric
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.strategies.ddp import DDPStrategy

from atrous.config.schema import Config
from atrous.core.errors import MachineError
from atrous.core.words import describe_count
from atrous.inference.precision import computes_bf16
from atrous.networks.device import find_device
from atrous.training.world import World


def build_fabric(config: Config, world: World | None = None) -> Fabric:
    """Build Lightning's Fabric for the device and the precision of the run.

    Args:
        config: All settings.
        world: The processes that train together; each has a device of its own, but for those on a CPU. Default: one.
    Raises:
        MachineError: The device is missing, or there are fewer devices than processes.
    """
    world = world or World.alone()
    device = _find_own_device(config.output.device, world)
    precision = choose_precision(config, device)
    strategy = DDPStrategy(cluster_environment=_Met(world), broadcast_buffers=False) if world.size > 1 else "auto"
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


def _find_own_device(name: str, world: World) -> torch.device:
    """Return the device of this process: of several CUDA devices the one of its number on this machine."""
    device = find_device(name)
    if world.size == 1 or device.type == "cpu":
        return device
    if device.type != "cuda" or device.index is not None:
        raise MachineError(
            f"{describe_count(world.size, 'process')} cannot share the device {name!r}",
            "Use device cuda, of which each process takes one of its own, or cpu.",
        )
    count = torch.cuda.device_count()  # 1 where a scheduler shows each process its own device alone
    device = torch.device("cuda", world.local_rank % count)
    own = str(torch.cuda.get_device_properties(device).uuid)
    every = world.gather(own)
    if len(set(every)) < len(every):
        raise MachineError(
            f"{describe_count(world.size, 'process')} have "
            f"{describe_count(len(set(every)), 'CUDA device')}, and each needs its own",
            f"Start {describe_count(len(set(every)), 'process')}.",
        )
    return device


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
