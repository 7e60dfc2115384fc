"""Batch norm in training: momentum, and freezing."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def set_norm_momentum(network: nn.Module, momentum: float) -> None:
    """Set the momentum of every batch norm.

    Args:
        network: Modified in place.
        momentum: Share of the current batch in the running statistics, in [0, 1].
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = momentum


def freeze_norms(network: nn.Module) -> None:
    """Exclude the weights of every batch norm from training; `start_training` freezes its statistics."""
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.requires_grad_(False)


def start_training(network: nn.Module, *, frozen_norms: bool) -> None:
    """Set a network to training mode.

    Args:
        network: Modified in place.
        frozen_norms: Whether batch norms stay in evaluation mode and use their running statistics.
    """
    network.train()
    for module in network.modules():
        if frozen_norms and isinstance(module, _BatchNorm):
            module.eval()
