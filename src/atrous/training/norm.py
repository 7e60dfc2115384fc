"""Batch norm in training: momentum, freezing, and how many values a norm sees."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from atrous.config.schema import TrainingConfig
from atrous.core.errors import ConfigError
from atrous.core.records import Note
from atrous.core.words import describe_count
from atrous.networks.layers.pooling import FEWEST_VALUES_PER_NORM, PooledConvNormAct
from atrous.networks.segmenter import Segmenter

FEW_VALUES = 32
"""With fewer values per channel the variance of a batch is typically wrong by a quarter or more: sqrt(2 / values)."""
_REMEDY = "(training.accumulate does not help: a norm sees one pass)"


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


def count_norm_values(network: Segmenter, batch: int, crop: int) -> dict[str, int]:
    """Count the values per channel that each batch norm sees in a forward pass of a training.

    The norms of averages over the image or its parts are not among them where they would see too few: they use their
    running statistics there, see `PooledConvNormAct`.

    Args:
        network: The network on the meta device, where a pass costs no arithmetic; it is left in training mode.
        batch: Images in the pass.
        crop: Their side in pixels.
    Returns: By the name of the norm, in the order of the pass.
    Raises:
        ConfigError: A norm sees a single value, of which there is no variance.
    """
    found: dict[str, int] = {}

    def watch(name: str, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        found[name] = inputs[0].numel() // inputs[0].shape[1]
        if found[name] == 1:
            raise ConfigError(
                f"training.batch: with {describe_count(batch, 'image')} of {crop} x {crop} pixels the batch norm "
                f"{name} sees a single value per channel, and its output would be 0 for any image",
                "Raise `batch`, or `set` training.norm=frozen, where the weights are trained ones.",
            )

    handles = [
        module.register_forward_pre_hook(partial(watch, name))
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm)
    ]
    try:
        channels = network.backbone.input_spec.form.channels
        network.train().forward_cells(torch.zeros(batch, channels, crop, crop, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return found


def describe_few_values(network: Segmenter, training: TrainingConfig) -> tuple[Note, ...]:
    """Say which batch norms see too few values for their statistics, and what helps; nothing where none do.

    Args:
        network: The network on the meta device.
        training: Settings: `batch`, `crop` and `norm`.
    Raises:
        ConfigError: See `count_norm_values`.
    """
    if training.norm == "frozen":
        return ()
    counts = count_norm_values(network, training.batch_size, training.crop)
    pooled = {f"{name}.norm" for name, module in network.named_modules() if isinstance(module, PooledConvNormAct)}
    notes = []
    if pooled and training.batch_size < FEWEST_VALUES_PER_NORM:
        message = (
            f"image-level branch: a batch of {training.batch_size} is too small for its batch norm, so that its "
            f"running statistics are used; with `batch={FEWEST_VALUES_PER_NORM}` or more it would be trained {_REMEDY}"
        )
        notes.append(Note("few-values-per-norm", message))
    few = {name: count for name, count in counts.items() if count < FEW_VALUES and name not in pooled}
    if few:
        fewest = min(few, key=few.__getitem__)
        message = (
            f"batch norm: {len(few)} of {describe_count(len(counts), 'norm')} see fewer than {FEW_VALUES} values per "
            f"channel, {fewest} as few as {few[fewest]}, so that their statistics change much from step to step; a "
            f"larger `batch` or `crop` or a smaller model.output_stride gives them more {_REMEDY}, and `set` "
            "training.norm=frozen keeps the statistics of trained weights"
        )
        notes.append(Note("few-values-per-norm", message))
    return tuple(notes)
