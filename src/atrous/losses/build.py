"""Builds a loss from its name and options. The only file of this folder that imports config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from atrous.config.options import read_options
from atrous.losses import LOSSES
from atrous.losses.contracts import Loss


def build_loss(name: str, options: Mapping[str, Any]) -> Loss:
    """Build a loss.

    Args:
        name: A name in `LOSSES`.
        options: Keyword-only arguments of its constructor.
    Raises:
        ConfigError: The name is unknown, or an option is unknown, of the wrong type or out of range.
    """
    part = LOSSES.load(name)
    loss: Loss = part(**read_options(part, options, "training.loss_options"))
    return loss
