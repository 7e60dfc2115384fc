"""What a run is made of before its first step: device and arithmetic, workers, crop."""

from __future__ import annotations

import torch
from lightning.fabric import Fabric

from atrous.config.schema import Config
from atrous.core.errors import ConfigError
from atrous.core.provenance import count_usable_cores
from atrous.inference.build import find_device
from atrous.networks.segmenter import Segmenter

MOST_WORKERS = 8
CROP_STEP_PX = 64
"""Crops are proposed as a multiple of this plus one."""
RATE_STRIDE = 16
"""The output stride that a head's rates are written for."""


def build_fabric(config: Config) -> Fabric:
    """Build Lightning's Fabric for the device and the arithmetic of the run.

    Raises:
        MachineError: The device is not there.
    """
    device = find_device(config.output.device)
    precision = config.training.precision
    if precision == "auto":
        precision = "bf16" if computes_bf16(device.type) else "fp32"
    fabric = Fabric(
        accelerator=device.type,
        devices=1 if device.index is None else [device.index],
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )
    torch.use_deterministic_algorithms(config.training.deterministic, warn_only=True)
    return fabric


def computes_bf16(accelerator: str) -> bool:
    """Whether the machine multiplies in bf16, and so gains by it."""
    if accelerator == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return accelerator == "cpu" and bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def choose_workers(workers: int | None, device: torch.device) -> int:
    """Return the processes that read pictures: none beside a training that keeps every core busy itself."""
    if workers is not None:
        return workers
    return 0 if device.type == "cpu" else min(count_usable_cores(), MOST_WORKERS)


def require_cells(network: Segmenter, crop: int) -> None:
    """Refuse a crop on which a rate has no cell: its side taps would stay random and switch on at larger pictures.

    Raises:
        ConfigError: A rate of the head reaches beyond every cell of the crop.
    """
    stride = network.output_stride
    cells = (crop - 1) // stride + 1
    rates = network.head.compute_rates(stride)
    if rates and max(rates) >= cells:
        needed = -(-max(rates) * stride // CROP_STEP_PX) * CROP_STEP_PX + 1
        halved = [rate // 2 for rate in network.head.compute_rates(RATE_STRIDE)]
        halves_fit = max(halved) * RATE_STRIDE < cells * stride and all(
            rate > 0 and rate * RATE_STRIDE % stride == 0 for rate in halved
        )
        raise ConfigError(
            f"training.crop: at {crop} pixels the map is {cells} cells wide, and rate {max(rates)} reaches beyond it",
            f"Use --crop {needed} or more{f', or --set model.head.rates={halved}' if halves_fit else ''}.",
        )
