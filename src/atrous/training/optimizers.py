"""What updates the weights: parameter groups of the backbone and the heads, and the optimizers of `OPTIMIZERS`.

An optimizer is a function from parameter groups to a `torch.optim.Optimizer`. Its keyword-only parameters are
`training.optimizer_options`, but for `lr` and `momentum`, which are fields of their own.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch

from atrous.config.options import read_options
from atrous.config.schema import TrainingConfig
from atrous.core.errors import ConfigError
from atrous.networks.contracts import ParameterGroup, group_by_decay
from atrous.networks.segmenter import Segmenter
from atrous.training import OPTIMIZERS

Groups = list[dict[str, Any]]


def build_sgd(groups: Groups, *, lr: float, momentum: float, nesterov: bool = False) -> torch.optim.SGD:
    """Build stochastic gradient descent with momentum.

    Args:
        groups: Parameter groups in torch's form.
        lr: Learning rate of the backbone at the start, above 0.
        momentum: Share of the last step in the next one, in [0, 1].
        nesterov: Whether the gradient is taken after the momentum step.
    """
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov)


def build_adamw(
    groups: Groups, *, lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
) -> torch.optim.AdamW:
    """Build Adam with decoupled weight decay.

    Args:
        groups: Parameter groups in torch's form.
        lr: Learning rate of the backbone at the start, above 0.
        betas: Decay of the running mean of the gradient and of its square, each in [0, 1).
        eps: Added to the denominator, above 0.
    Source: Loshchilov and Hutter 2017 (arXiv 1711.05101).
    """
    return torch.optim.AdamW(groups, lr=lr, betas=betas, eps=eps)


def build_optimizer(network: Segmenter, training: TrainingConfig) -> torch.optim.Optimizer:
    """Build the optimizer of a run over the parameters that learn.

    Args:
        network: What learns; parameters that need no gradient are skipped.
        training: Settings: `optimizer`, its options, learning rates, momentum and weight decay.
    Raises:
        ConfigError: An unknown optimizer, an option that it does not have or that is out of range, or a momentum for an
            optimizer that has none.
    """
    build = OPTIMIZERS.load(training.optimizer)
    options = read_options(build, training.optimizer_options, "training.optimizer_options", reserved=("lr", "momentum"))
    if "momentum" in inspect.signature(build).parameters:
        options["momentum"] = training.momentum
    elif training.momentum != TrainingConfig().momentum:
        raise ConfigError(
            f"training.momentum has no effect: {training.optimizer} has no momentum",
            "Leave it out, or set training.optimizer to sgd.",
        )
    groups = _list_groups(network, training)
    try:
        optimizer: torch.optim.Optimizer = build(groups, lr=training.lr, **options)
    except ValueError as error:
        raise ConfigError(
            f"training.optimizer_options: {error}", f"Change the options of {training.optimizer}."
        ) from error
    return optimizer


def _list_groups(network: Segmenter, training: TrainingConfig) -> Groups:
    """Return the parameter groups of the backbone, which groups its own, and those of the heads, in torch's form."""
    heads = [head for head in (network.head, network.auxiliary_head) if head is not None]
    grouped: list[tuple[ParameterGroup, float]] = [(group, 1.0) for group in network.backbone.group_parameters()]
    grouped += [(group, training.head_lr_factor) for head in heads for group in group_by_decay(head)]
    groups = []
    for group, factor in grouped:
        learning = [parameter for parameter in group.parameters if parameter.requires_grad]
        if learning:
            decay = training.weight_decay if group.decays else 0.0
            initial_lr = training.lr * factor * group.lr_factor
            groups.append({"params": learning, "weight_decay": decay, "initial_lr": initial_lr})
    return groups


def describe_rates(training: TrainingConfig) -> str:
    """Return the optimizer and its learning rates in one line for the log."""
    head = training.lr * training.head_lr_factor
    rates = f"{training.lr:g}" if head == training.lr else f"{training.lr:g} (backbone) and {head:g} (new layers)"
    warmup = f"rises over the first {training.warmup_fraction:.0%} of the steps, then " * (training.warmup_fraction > 0)
    return f"{training.optimizer}, learning rate {rates}; it {warmup}falls to 0"


def set_lr_factor(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to its initial one times a factor.

    Args:
        optimizer: An optimizer of `build_optimizer`.
        factor: At least 0.
    """
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
