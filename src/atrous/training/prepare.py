"""What a run is made of before its first step: device and arithmetic, workers, crop."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from lightning.fabric import Fabric

from atrous.config.schema import Config, TrainingConfig
from atrous.core.errors import ConfigError
from atrous.core.machine import count_usable_cores
from atrous.core.records import MessageCallback
from atrous.data.build import list_pass
from atrous.data.contracts import Splits
from atrous.data.statistics import MaskStatistics, compute_class_weights
from atrous.inference.precision import computes_bf16
from atrous.losses.build import build_loss
from atrous.networks.build import build_network
from atrous.networks.device import find_device
from atrous.networks.layers.lean import set_lean
from atrous.networks.rates import RATE_STRIDE
from atrous.networks.segmenter import Segmenter
from atrous.training.compilation import compile_cells, require_compiler
from atrous.training.optimizers import build_optimizer
from atrous.training.task import TrainingTask

MOST_WORKERS = 8
CROP_STEP_PX = 64
"""Crops are proposed as a multiple of this plus one."""


def build_fabric(config: Config) -> Fabric:
    """Build Lightning's Fabric for the device and the arithmetic of the run.

    Raises:
        MachineError: The device is not there, or cannot be compiled for where the run is to be compiled.
    """
    device = find_device(config.output.device)
    if config.training.compile:
        require_compiler(device)
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


def choose_workers(workers: int | None, device: torch.device) -> int:
    """Return the processes that read images: none beside a training that keeps every core busy itself."""
    if workers is not None:
        return workers
    return 0 if device.type == "cpu" else min(count_usable_cores(), MOST_WORKERS)


def require_cells(network: Segmenter, crop: int) -> None:
    """Refuse a crop on which a rate has no cell: its side taps would stay random and switch on at larger images.

    Raises:
        ConfigError: A rate of the head reaches beyond every cell of the crop.
    """
    stride = network.output_stride
    cells = (crop - 1) // stride + 1
    rates = network.head.compute_rates(stride)
    if rates and max(rates) >= cells:
        needed = -(-max(rates) * stride // CROP_STEP_PX) * CROP_STEP_PX + 1
        halved = [rate // 2 for rate in network.head.rates]
        halves_fit = max(halved) * RATE_STRIDE < cells * stride and all(
            rate > 0 and rate * RATE_STRIDE % stride == 0 for rate in halved
        )
        raise ConfigError(
            f"training.crop: at {crop} pixels the map is {cells} cells wide, and rate {max(rates)} reaches beyond it",
            f"Use --crop {needed} or more{f', or --set model.head.rates={halved}' if halves_fit else ''}.",
        )


def build_trainable(config: Config, num_classes: int) -> Segmenter:
    """Build the network of a run, with random weights.

    Raises:
        ConfigError: A network that cannot be, or a crop on which one of its rates has no cell.
    """
    network = build_network(config.model, num_classes)
    require_cells(network, config.training.crop)
    return network


def build_task(
    training: TrainingConfig,
    network: Segmenter,
    names: Sequence[str],
    statistics: MaskStatistics,
    on_message: MessageCallback,
) -> TrainingTask:
    """Build what is minimised.

    Args:
        training: Its settings.
        network: What learns.
        names: The classes.
        statistics: What the training masks hold, for class weights.
        on_message: Receives messages about automatic choices and findings.
    Raises:
        ConfigError: An unknown loss, an option that it does not have, or another number of class weights than classes.
    """
    weights = training.class_weights
    if isinstance(weights, tuple) and len(weights) != len(names):
        raise ConfigError(
            f"training.class_weights: {len(weights)} weights for {len(names)} classes",
            f"Give one weight a class, in this order: {', '.join(names)}; or auto.",
        )
    if weights == "auto":
        weights = compute_class_weights(statistics.pixels)
        listed = ", ".join(f"{name} {weight:.2f}" for name, weight in zip(names, weights, strict=True))
        on_message(f"class weights (1 / sqrt of the share of pixels, capped): {listed}")
    set_lean(network, training.lean == "auto")
    return TrainingTask(
        network,
        build_loss(training.loss, training.loss_options),
        resolution=training.loss_resolution,
        class_weights=None if isinstance(weights, str) else weights,
        auxiliary_weight=training.auxiliary_weight,
        forward_cells=compile_cells(network) if training.compile else None,
        lean=training.lean == "auto",
    )


def require_trainable(config: Config, splits: Splits, statistics: MaskStatistics) -> None:
    """Refuse what a training with these settings and data would refuse at its start, long before that start.

    Raises:
        ConfigError: See `build_trainable`, `build_optimizer`, `build_task` and `list_pass`.
        MachineError: The run is to be compiled, and this machine cannot.
    """
    if config.training.compile:
        require_compiler(find_device(config.output.device))
    space = splits.train.label_space
    network = build_trainable(config, space.num_classes)
    build_optimizer(network, config.training)
    build_task(config.training, network, space.names, statistics, lambda text: None)
    list_pass(config.training, space, statistics)
