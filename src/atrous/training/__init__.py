"""The training loop and its parts. The only folder that imports lightning."""

from __future__ import annotations

from atrous.core.registry import Registry

OPTIMIZERS = Registry(
    "optimizer",
    (
        ("sgd", "atrous.training.optimizers:build_sgd"),
        ("adamw", "atrous.training.optimizers:build_adamw"),
    ),
)
"""Optimizers by name, see `optimizers.py`."""
