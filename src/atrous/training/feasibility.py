"""What a training would refuse at its start, found out before its data are read or its first step is taken."""

from __future__ import annotations

import torch

from atrous.config.schema import Config, EvaluationConfig
from atrous.core.errors import ConfigError
from atrous.core.processes import require_guarded_script
from atrous.core.words import describe_count
from atrous.data.build import list_pass, require_augmentation
from atrous.data.contracts import Splits
from atrous.data.statistics import MaskStatistics
from atrous.inference.build import resolve
from atrous.inference.engine import Engine
from atrous.losses.build import build_loss
from atrous.networks.device import find_device
from atrous.networks.segmenter import Segmenter
from atrous.networks.weights import require_weights
from atrous.training.batch import set_batch
from atrous.training.compilation import require_compiler
from atrous.training.crop import build_trainable
from atrous.training.names import require_names
from atrous.training.optimizers import build_optimizer
from atrous.training.trackers import require_trackers


def require_feasible(config: Config, *, is_resumed: bool = False) -> None:
    """Refuse settings that no data can make possible, in any section but that of the data.

    Args:
        config: All settings.
        is_resumed: Whether the training has weights already, and no longer needs those that it started from.
    Raises:
        ConfigError: An unknown name or option, an output stride that the network cannot have, or a crop that is too
            small for its rates.
        ModelFileError: The file of weights does not exist, cannot be read, or belongs to another architecture.
        MachineError: The device, the compiler, a tracker or a package of the backend or of the weights is missing.
        UsageError: Worker processes would run the script again.
    """
    require_names(config, is_resumed=is_resumed)
    with torch.device("meta"):  # no memory and no random numbers
        network = build_trainable(config, num_classes=2)
        build_optimizer(network, set_batch(config, 1).training if config.training.batch == "auto" else config.training)
    build_loss(config.training.loss, config.training.loss_options)
    device = find_device(config.output.device)
    if config.output.workers or (config.output.workers is None and device.type != "cpu"):
        require_guarded_script()
    _require_evaluation(network, config.evaluation, device)
    if config.training.compile:
        require_compiler(device)
    require_trackers(config.output.logger)
    if not is_resumed:
        require_weights(network, config.model.name, config.model.weights)


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
        ConfigError: A wrong number of class weights, a hard class that the data do not have, or see
            `require_augmentation`.
    """
    names = splits.train.label_space.names
    weights = config.training.class_weights
    if isinstance(weights, tuple) and len(weights) != len(names):
        raise ConfigError(
            f"training.class_weights: {describe_count(len(weights), 'weight')} "
            f"for {describe_count(len(names), 'class')}",
            f"Give one weight per class, in this order: {', '.join(names)}; or auto.",
        )
    require_augmentation(splits.train, config.training)
    list_pass(config.training, splits.train.label_space, statistics)
