"""Batch norm in training: learning or frozen, and how many values it sees."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def set_norm_momentum(network: nn.Module, momentum: float) -> None:
    """Set the share of a batch in the running statistics of every batch norm."""
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.momentum = momentum


def freeze_norms(network: nn.Module) -> None:
    """Take every batch norm's weights out of the training; `start_training` keeps its statistics as they are."""
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.requires_grad_(False)


def start_training(network: nn.Module, *, frozen_norms: bool) -> None:
    """Put a network into training mode; frozen norms stay at their running statistics."""
    network.train()
    for module in network.modules():
        if frozen_norms and isinstance(module, _BatchNorm):
            module.eval()
