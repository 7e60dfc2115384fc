"""An optimizer, as somebody outside the package writes one."""

from __future__ import annotations

from typing import Any

import torch


def build_rmsprop(
    groups: list[dict[str, Any]], *, lr: float, momentum: float, alpha: float = 0.99
) -> torch.optim.Optimizer:
    """Build torch's RMSprop; `momentum` is the field of that name."""
    return torch.optim.RMSprop(groups, lr=lr, momentum=momentum, alpha=alpha)
