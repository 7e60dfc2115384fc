from __future__ import annotations

import pytest
import torch

from atrous.config.schema import TrainingConfig
from atrous.core.errors import ConfigError
from atrous.networks.build import build_network_from
from atrous.networks.contracts import ParameterGroup
from atrous.training.norm import freeze_norms
from atrous.training.optimizers import build_optimizer, choose_rates, describe_rates, set_lr_factor


def build(**options):
    model = {"name": "deeplabv3-resnet18", "auxiliary": True, "head": {"channels": 8, "rates": [1]}} | options
    return build_network_from(model, 3)


def optimize(network, **settings):
    return build_optimizer(
        network,
        TrainingConfig(**{"optimizer": "sgd", "lr": 0.1, "head_lr_factor": 10.0, "weight_decay": 0.01} | settings),
    )


def list_learning(optimizer):
    return {id(p): group for group in optimizer.param_groups for p in group["params"]}


def test_norms_and_biases_do_not_decay_and_all_else_does():
    network = build()
    groups = list_learning(optimize(network))
    for name, parameter in network.named_parameters():
        is_kernel = name.endswith("weight") and parameter.dim() == 4
        assert groups[id(parameter)]["weight_decay"] == (0.01 if is_kernel else 0.0), name


def test_heads_learn_at_their_own_rate_throughout():
    network = build()
    optimizer = optimize(network)
    groups = list_learning(optimizer)
    set_lr_factor(optimizer, 0.5)
    for name, parameter in network.named_parameters():
        expected = 0.05 if name.startswith("backbone.") else 0.5
        assert groups[id(parameter)]["lr"] == pytest.approx(expected), name
    set_lr_factor(optimizer, 1.0)
    assert {group["lr"] for group in optimizer.param_groups} == {0.1, 1.0}


def test_what_needs_no_gradient_is_left_out():
    network = build()
    freeze_norms(network)
    groups = list_learning(optimize(network))
    frozen = [name for name, p in network.named_parameters() if id(p) not in groups]
    assert frozen == [name for name, p in network.named_parameters() if not p.requires_grad]
    assert frozen


def test_a_step_is_that_of_plain_sgd_with_momentum_and_decay():
    network = build()
    optimizer = optimize(network)
    weight, bias = network.backbone.conv1.weight, network.head.classifier.bias
    expected = {id(p): (p.detach().clone(), torch.zeros_like(p)) for p in (weight, bias)}
    for factor in (1.0, 0.25):
        set_lr_factor(optimizer, factor)
        for parameter, lr, decay in ((weight, 0.1, 0.01), (bias, 1.0, 0.0)):
            parameter.grad = torch.full_like(parameter, 2.0)
            value, velocity = expected[id(parameter)]
            velocity = 0.9 * velocity + 2.0 + decay * value
            expected[id(parameter)] = value - factor * lr * velocity, velocity
        optimizer.step()
    for parameter in (weight, bias):
        torch.testing.assert_close(parameter.detach(), expected[id(parameter)][0])


def test_adamw_is_torchs_with_the_same_groups():
    network = build()
    optimizer = optimize(network, optimizer="adamw", optimizer_options={"betas": [0.8, 0.9]}, lr=1e-3)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.9)}
    assert [len(group["params"]) for group in optimizer.param_groups] == [
        len(group["params"]) for group in optimize(network).param_groups
    ]


def test_the_backbone_groups_its_own_parameters(monkeypatch):
    """As a transformer does, whose position embeddings do not decay and whose first layers learn slowly."""
    network = build()
    stem, rest = network.backbone.conv1.weight, [p for p in network.backbone.parameters() if p.dim() > 0][1:]
    grouped = [ParameterGroup((stem,), decays=False, lr_factor=0.1), ParameterGroup(tuple(rest), decays=True)]
    monkeypatch.setattr(network.backbone, "group_parameters", lambda: grouped)
    groups = list_learning(optimize(network))
    assert groups[id(stem)]["weight_decay"] == 0.0
    assert groups[id(stem)]["initial_lr"] == pytest.approx(0.01)
    assert groups[id(rest[0])]["weight_decay"] == 0.01


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"optimizer": "adamv"}, r"unknown optimizer 'adamv'(.|\n)*Did you mean 'adamw'"),
        ({"optimizer": "adamw", "momentum": 0.5}, "training.momentum has no effect: adamw has no momentum"),
        ({"optimizer": "adamw", "optimizer_options": {"beta": 1}}, r"optimizer_options\.beta: unknown option"),
        (
            {"optimizer": "adamw", "optimizer_options": {"betas": [0.9, 1.5]}},
            r"training\.optimizer_options: Invalid beta",
        ),
        ({"optimizer_options": {"momentum": 0.5}}, r"optimizer_options\.momentum: unknown option"),
        ({"optimizer_options": {"nesterov": "yes please"}}, r"optimizer_options\.nesterov: Input should be"),
    ],
)
def test_what_cannot_be_is_refused_in_words(settings, words):
    with pytest.raises(ConfigError, match=words):
        optimize(build(), **settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"optimizer": "sgd", "lr": 0.1, "head_lr_factor": 1.0},
            "sgd, learning rate 0.1; it rises over the first 5% of the steps, then falls to 0",
        ),
        (
            {"optimizer": "adamw", "lr": 2e-4, "head_lr_factor": 10.0, "warmup_fraction": 0.0},
            "adamw, learning rate 0.0002 (backbone) and 0.002 (head); it falls to 0",
        ),
    ],
)
def test_rates_are_reported_as_they_are(settings, words):
    assert describe_rates(TrainingConfig(**settings), "imagenet") == words


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("weights", ["none", "imagenet", "runs/before"])
def test_rates_that_are_not_given_follow_a_rule_that_is_said(optimizer, weights):
    """Random weights and new layers may change fast; what was trained before may not."""
    settings = TrainingConfig(optimizer=optimizer)
    rates, random = choose_rates(settings, weights), choose_rates(settings, "none")
    is_random = weights == "none"
    assert (rates == random) == is_random
    assert rates.backbone <= random.backbone
    assert rates.backbone <= rates.heads
    said = describe_rates(settings, weights)
    for rate in (rates.backbone, rates.heads):
        assert f"{rate:.3g}" in said
    assert ("random weights" if is_random else "trained weights") in said
    groups = build_optimizer(build(), settings, weights).param_groups
    assert {group["initial_lr"] for group in groups} == {rates.backbone, rates.heads}


def test_a_rate_that_is_given_holds_whatever_the_rule_says():
    given = choose_rates(TrainingConfig(lr=0.3), "imagenet")
    assert given.backbone == 0.3
    factor = choose_rates(TrainingConfig(head_lr_factor=3.0), "imagenet")
    assert factor.heads == pytest.approx(3.0 * factor.backbone)
    assert choose_rates(TrainingConfig(weight_decay=0.5), "imagenet").weight_decay == 0.5
    assert "rule" not in describe_rates(TrainingConfig(lr=0.3), "imagenet")


@pytest.mark.parametrize(("optimizer", "power"), [("sgd", 1.0), ("adamw", 0.5)])
def test_the_rule_follows_the_images_of_a_step_however_they_are_passed(optimizer, power):
    def choose(batch, accumulate):
        return choose_rates(TrainingConfig(optimizer=optimizer, batch=batch, accumulate=accumulate), "imagenet")

    eight = choose(8, 1)
    assert choose(2, 4) == eight
    for batch, accumulate in ((2, 1), (32, 1), (4, 8)):
        scale = (batch * accumulate / 8) ** power
        rates = choose(batch, accumulate)
        assert (rates.backbone, rates.heads) == pytest.approx((eight.backbone * scale, eight.heads * scale))


def test_an_optimizer_without_a_rule_needs_a_rate():
    settings = TrainingConfig(optimizer="outside")
    with pytest.raises(ConfigError, match="no rule for outside\nGive a number"):
        choose_rates(settings, "none")
    given = choose_rates(TrainingConfig(optimizer="outside", lr=0.3), "none")
    assert (given.backbone, given.heads) == (0.3, 0.3)
