"""What a training would refuse at its start, found out before its data are read or its first step is taken."""

from __future__ import annotations

import torch

from atrous.config.schema import Config, EvaluationConfig
from atrous.core.errors import ConfigError
from atrous.core.processes import require_guarded_script
from atrous.core.words import describe_count
from atrous.data.build import list_pass
from atrous.data.contracts import Splits
from atrous.data.statistics import MaskStatistics
from atrous.inference.build import resolve
from atrous.inference.engine import Engine
from atrous.losses.build import build_loss
from atrous.networks.build import build_network
from atrous.networks.device import find_device
from atrous.networks.rates import RATE_STRIDE
from atrous.networks.segmenter import Segmenter
from atrous.training.compilation import require_compiler
from atrous.training.names import require_names
from atrous.training.optimizers import build_optimizer
from atrous.training.trackers import require_trackers

CROP_STEP_PX = 64
"""Crops are proposed as a multiple of this plus one."""


def require_feasible(config: Config) -> None:
    """Refuse settings that no data can make possible, in any section but that of the data.

    Raises:
        ConfigError: An unknown name or option, an output stride that the network cannot have, or a crop that is too
            small for its rates.
        ModelFileError: The file of weights does not exist.
        MachineError: The device, the compiler, a tracker or a package of the backend is missing.
        UsageError: Worker processes would run the script again.
    """
    require_names(config)
    with torch.device("meta"):  # no memory and no random numbers
        network = build_trainable(config, num_classes=2)
        build_optimizer(network, config.training)
    build_loss(config.training.loss, config.training.loss_options)
    device = find_device(config.output.device)
    if config.output.workers or (config.output.workers is None and device.type != "cpu"):
        require_guarded_script()
    _require_evaluation(network, config.evaluation, device)
    if config.training.compile:
        require_compiler(device)
    require_trackers(config.output.logger)


def _require_evaluation(network: Segmenter, evaluation: EvaluationConfig, device: torch.device) -> None:
    engine = Engine(network, device=str(device), backend=evaluation.backend)
    protocol = resolve(evaluation, engine, evaluation.precision)
    engine.require_precision(protocol.precision)
    network.output_stride = protocol.output_stride


def require_trainable(config: Config, splits: Splits, statistics: MaskStatistics) -> None:
    """Refuse settings that the data make impossible.

    Args:
        config: All settings.
        splits: The data.
        statistics: Pixels of each class in the training masks.
    Raises:
        ConfigError: A wrong number of class weights, or a hard class that the data do not have.
    """
    names = splits.train.label_space.names
    weights = config.training.class_weights
    if isinstance(weights, tuple) and len(weights) != len(names):
        raise ConfigError(
            f"training.class_weights: {describe_count(len(weights), 'weight')} "
            f"for {describe_count(len(names), 'class')}",
            f"Give one weight per class, in this order: {', '.join(names)}; or auto.",
        )
    list_pass(config.training, splits.train.label_space, statistics)


def build_trainable(config: Config, num_classes: int) -> Segmenter:
    """Build the network of a training with random weights.

    Args:
        config: All settings.
        num_classes: Scored classes.
    Raises:
        ConfigError: An unknown name or option, an output stride that the network cannot have, or a crop that is too
            small for its rates.
    """
    network = build_network(config.model, num_classes)
    require_cells(network, config.training.crop)
    return network


def require_cells(network: Segmenter, crop: int) -> None:
    """Refuse a crop on which a rate reaches no cell: its side taps would stay random and act on larger images.

    Args:
        network: The network at its output stride.
        crop: Side of the crop in pixels.
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
            f"training.crop: at {crop} pixels the feature map is {describe_count(cells, 'cell')} wide, "
            f"and rate {max(rates)} reaches beyond it",
            f"Use `crop={needed}` or more{f', or `set` model.head.rates={halved}' if halves_fit else ''}.",
        )
