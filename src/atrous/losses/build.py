"""From names and settings to a loss. The only file here that knows the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atrous.config.options import read_options
from atrous.losses import LOSSES
from atrous.losses.contracts import Loss


def build_loss(name: str, options: Mapping[str, Any]) -> Loss:
    """Build a loss.

    Raises:
        ConfigError: An unknown name, or an option that is unknown, of another type or outside its range.
    """
    part = LOSSES.load(name)
    loss: Loss = part(**read_options(part, options, "training.loss_options"))
    return loss
