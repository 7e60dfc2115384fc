"""What a run is made of before its first step: device and arithmetic, workers, crop."""

from __future__ import annotations

import torch
from lightning.fabric import Fabric

from atrous.config.schema import Config
from atrous.core.errors import ConfigError
from atrous.core.provenance import count_usable_cores
from atrous.networks.segmenter import Segmenter

MOST_WORKERS = 8


def build_fabric(config: Config) -> Fabric:
    """Build Lightning's Fabric for the device and the arithmetic of the run."""
    device = config.output.device
    accelerator, _, number = device.partition(":")
    if device == "auto":
        accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    precision = config.training.precision
    if precision == "auto":
        precision = "bf16" if computes_bf16(accelerator) else "fp32"
    devices: list[int] | int = [int(number)] if number else 1
    fabric = Fabric(
        accelerator=accelerator, devices=devices, precision="bf16-mixed" if precision == "bf16" else "32-true"
    )
    torch.use_deterministic_algorithms(config.training.deterministic, warn_only=True)
    return fabric


def computes_bf16(accelerator: str) -> bool:
    """Whether the machine multiplies in bf16, and so gains by it."""
    if accelerator == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
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
        needed = -(-max(rates) * stride // 32) * 32 + 1
        fitting = [rate for rate in rates if rate < cells]
        raise ConfigError(
            f"training.crop: at {crop} pixels the map is {cells} cells wide, and rate {max(rates)} reaches beyond it",
            f"Use --crop {needed} or more, or smaller rates (model.head.rates; {fitting or 'none'} fit here).",
        )
