"""Names and files in the settings of a training, checked without PyTorch and before anything is read."""

from __future__ import annotations

from atrous.config.schema import Config
from atrous.core.errors import ModelFileError
from atrous.inference import BACKENDS
from atrous.losses import LOSSES
from atrous.networks.model_source import find_model
from atrous.networks.names import split_name
from atrous.training import OPTIMIZERS


def require_names(config: Config, *, is_resumed: bool = False) -> None:
    """Refuse names of parts that do not exist, and weights that do not exist.

    Args:
        config: The settings of a training, or of one of its stages.
        is_resumed: Whether the training has weights already, and no longer needs those that it started from.
    Raises:
        ConfigError: An unknown family, backbone, loss, optimizer or backend.
        ModelFileError: There are no such weights.
    """
    split_name(config.model.name)
    LOSSES.require(config.training.loss)
    OPTIMIZERS.require(config.training.optimizer)
    if config.evaluation.backend != "auto":
        BACKENDS.require(config.evaluation.backend)
    if is_resumed or config.model.weights in ("none", "imagenet"):
        return
    try:
        find_model(config.model.weights)
    except ModelFileError as error:
        hint = f"{error.hint} Also allowed: imagenet, none."
        raise ModelFileError(f"model.weights: {error.message}", hint) from error
