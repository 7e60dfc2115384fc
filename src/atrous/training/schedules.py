"""Learning rates as functions of the step: nothing to store, nothing to restore."""

from __future__ import annotations


def compute_poly(step: int, total: int, *, power: float = 0.9, warmup_steps: int = 0) -> float:
    """Return the factor on the learning rate at a step: (1 - step / total) ** power, never below 0.

    Args:
        step: Steps done, >= 0; beyond `total` the factor is 0.
        total: Steps of the whole run, >= 1.
        power: Exponent.
        warmup_steps: Steps over which the factor rises linearly from near 0.
    Source: Chen et al. 2017 (arXiv 1706.05587), section 4.1.
    """
    left: float = max(1.0 - step / total, 0.0) ** power
    return left * min((step + 1) / (warmup_steps + 1), 1.0)
