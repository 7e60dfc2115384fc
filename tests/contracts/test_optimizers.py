"""What every optimizer of the table must keep."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from atrous.config.schema import TrainingConfig
from atrous.networks.segmenter import Segmenter
from atrous.training import OPTIMIZERS
from atrous.training.optimizers import build_optimizer, set_lr_factor
from tiny import build_tiny

every = pytest.mark.parametrize("name", OPTIMIZERS)


def build(name: str, network: Segmenter, **settings: object) -> torch.optim.Optimizer:
    return build_optimizer(network, TrainingConfig(optimizer=name, lr=0.002, **settings))


def take_steps(network: Segmenter, optimizer: torch.optim.Optimizer, count: int) -> list[float]:
    """Return the loss before each step, on one batch of halves of two classes."""
    images = torch.rand(2, 3, 33, 33, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(2, 33, 33, dtype=torch.int64)
    labels[:, :, 16:], images[..., 16:] = 1, images[..., 16:] / 4
    losses = []
    for _ in range(count):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@every
def test_the_loss_falls(name: str) -> None:
    network = build_tiny()
    losses = take_steps(network, build(name, network), 12)
    assert losses[-1] < losses[0]


@every
def test_nothing_moves_at_a_learning_rate_of_zero(name: str) -> None:
    """As at the first step of a warm-up, and after the last step."""
    network = build_tiny()
    optimizer = build(name, network, weight_decay=0.1)
    before = copy.deepcopy(network.state_dict())
    set_lr_factor(optimizer, 0.0)
    take_steps(network, optimizer, 2)
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


@every
def test_a_restored_state_continues_bit_for_bit(name: str) -> None:
    network = build_tiny()
    optimizer = build(name, network, head_lr_factor=3.0)
    take_steps(network, optimizer, 3)
    again = copy.deepcopy(network)
    restored = build(name, again, head_lr_factor=3.0)
    restored.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert take_steps(again, restored, 3) == take_steps(network, optimizer, 3)
    torch.testing.assert_close(again.state_dict(), network.state_dict(), rtol=0, atol=0)


@every
def test_every_parameter_is_in_one_group(name: str) -> None:
    network = build_tiny()
    given = [id(p) for group in build(name, network).param_groups for p in group["params"]]
    assert sorted(given) == sorted(id(p) for p in network.parameters())


CONTRACT = (
    test_the_loss_falls,
    test_nothing_moves_at_a_learning_rate_of_zero,
    test_a_restored_state_continues_bit_for_bit,
    test_every_parameter_is_in_one_group,
)
"""What `test_extension.py` asks of a part from outside the package."""
