"""What updates the weights: parameter groups of the backbone and the heads, and the optimizers of `OPTIMIZERS`.

An optimizer is a function from parameter groups to a `torch.optim.Optimizer`. Its keyword-only parameters are
`training.optimizer_options`, but for `lr` and `momentum`, which are fields of their own.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch

from atrous.config.options import read_options
from atrous.config.schema import TrainingConfig
from atrous.core.errors import ConfigError
from atrous.core.words import describe_count
from atrous.networks.contracts import ParameterGroup, group_by_decay
from atrous.networks.segmenter import Segmenter
from atrous.training import OPTIMIZERS

Groups = list[dict[str, Any]]


@dataclass(frozen=True)
class Rates:
    """How fast the parts of a network change at the start of a training.

    Args:
        backbone: Learning rate of the backbone, above 0.
        heads: Learning rate of the heads, above 0.
        weight_decay: Weight decay, at least 0.
    """

    backbone: float
    heads: float
    weight_decay: float


BATCH = 8
"""Images of a step for which the rules hold; the learning rate follows another number by a power of their ratio."""
_BATCH_POWER = {"sgd": 1.0, "adamw": 0.5}
_RULES = {
    ("sgd", "none"): Rates(0.1, 0.1, 1e-4),
    ("sgd", "given"): Rates(0.02, 0.1, 1e-4),
    ("adamw", "none"): Rates(1e-3, 1e-3, 0.01),
    ("adamw", "given"): Rates(5e-4, 2e-3, 0.01),
}
"""By optimizer, and whether the backbone starts from weights."""


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


def choose_rates(training: TrainingConfig, weights: str) -> Rates:
    """Return the rates of a training: those that are given; for the others, those of a rule.

    A backbone that was trained before changes slowly, the head fast, also one that was trained. The rates for trained
    weights were read off trainings on street scenes and on photographs, see docs/learning.md; AdamW's for random
    weights are not measured.

    Args:
        training: Settings: `optimizer`, `lr`, `head_lr_factor`, `weight_decay`, `batch` and `accumulate`.
        weights: Where the backbone starts, as `model.weights`.
    Raises:
        ConfigError: No learning rate is given for an optimizer that has no rule.
    Source: the square root of the batch for Adam: Malladi et al. 2022 (arXiv 2205.10287); the batch itself for SGD:
        Goyal et al. 2017 (arXiv 1706.02677).
    """
    rule = _RULES.get((training.optimizer, "none" if weights == "none" else "given"))
    if rule is None:
        if training.lr == "auto":
            raise ConfigError(
                f"training.lr is auto, and there is no rule for {training.optimizer}", "Give a number: `lr=0.01`."
            )
        rule = Rates(training.lr, training.lr, 0.0)
    if training.lr == "auto":
        images = training.batch_size * training.accumulate
        backbone = rule.backbone * (images / BATCH) ** _BATCH_POWER[training.optimizer]
    else:
        backbone = training.lr
    factor = rule.heads / rule.backbone if training.head_lr_factor == "auto" else training.head_lr_factor
    decay = rule.weight_decay if training.weight_decay == "auto" else training.weight_decay
    return Rates(backbone, backbone * factor, decay)


def build_optimizer(network: Segmenter, training: TrainingConfig, weights: str = "none") -> torch.optim.Optimizer:
    """Build the optimizer of a run over the parameters that learn.

    Args:
        network: What learns; parameters that need no gradient are skipped.
        training: Settings: `optimizer`, its options, learning rates, momentum and weight decay.
        weights: Where the backbone starts, as `model.weights`.
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
    rates = choose_rates(training, weights)
    groups = _list_groups(network, rates)
    try:
        optimizer: torch.optim.Optimizer = build(groups, lr=rates.backbone, **options)
    except ValueError as error:
        raise ConfigError(
            f"training.optimizer_options: {error}", f"Change the options of {training.optimizer}."
        ) from error
    return optimizer


def _list_groups(network: Segmenter, rates: Rates) -> Groups:
    """Return the parameter groups of the backbone, which groups its own, and those of the heads, in torch's form."""
    heads = [head for head in (network.head, network.auxiliary_head) if head is not None]
    grouped: list[tuple[ParameterGroup, float]] = [
        (group, rates.backbone) for group in network.backbone.group_parameters()
    ]
    grouped += [(group, rates.heads) for head in heads for group in group_by_decay(head)]
    groups = []
    for group, rate in grouped:
        learning = [parameter for parameter in group.parameters if parameter.requires_grad]
        if learning:
            decay = rates.weight_decay if group.decays else 0.0
            groups.append({"params": learning, "weight_decay": decay, "initial_lr": rate * group.lr_factor})
    return groups


def describe_rates(training: TrainingConfig, weights: str) -> str:
    """Return the optimizer and its learning rates in one line for the log.

    Args:
        training: Settings of the training.
        weights: Where the backbone starts, as `model.weights`.
    """
    rates = choose_rates(training, weights)
    lr = f"{rates.backbone:.3g}"
    if rates.heads != rates.backbone:
        lr = f"{lr} (backbone) and {rates.heads:.3g} (head)"
    if training.lr == "auto":
        kind = "random weights" if weights == "none" else "trained weights"
        images = describe_count(training.batch_size * training.accumulate, "image")
        lr += f", by rule for {kind} and a step of {images}"
    warmup = f"rises over the first {training.warmup_fraction:.0%} of the steps, then " * (training.warmup_fraction > 0)
    return f"{training.optimizer}, learning rate {lr}; it {warmup}falls to 0"


def set_lr_factor(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set each group's learning rate to its initial one times a factor.

    Args:
        optimizer: An optimizer of `build_optimizer`.
        factor: At least 0.
    """
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
