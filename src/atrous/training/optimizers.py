"""SGD over four groups: backbone and new layers, with and without weight decay."""

from __future__ import annotations

import torch
from torch import nn

from atrous.networks.segmenter import Segmenter


def build_optimizer(
    network: Segmenter, *, lr: float, head_lr_factor: float, momentum: float, weight_decay: float
) -> torch.optim.SGD:
    """Build SGD with Nesterov-free momentum over the parameters that learn.

    Args:
        network: What learns; parameters that need no gradient are left out.
        lr: Learning rate of the backbone at the start.
        head_lr_factor: Learning rate of the heads / that of the backbone.
        momentum: Momentum.
        weight_decay: Decay of weights with more than one dimension; norms and biases have none.
    """
    parts: tuple[tuple[nn.Module | None, float], ...] = (
        (network.backbone, 1.0),
        (network.head, head_lr_factor),
        (network.auxiliary_head, head_lr_factor),
    )
    groups = []
    for part, factor in parts:
        learning = [p for p in part.parameters() if p.requires_grad] if part is not None else []
        for decays in (True, False):
            chosen = [p for p in learning if (p.dim() > 1) == decays]
            if chosen:
                decay = weight_decay if decays else 0.0
                groups.append({"params": chosen, "weight_decay": decay, "initial_lr": lr * factor})
    return torch.optim.SGD(groups, lr=lr, momentum=momentum)


def set_lr_factor(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to its initial one times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
