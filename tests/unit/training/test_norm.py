from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from atrous.config.schema import TrainingConfig
from atrous.core.errors import ConfigError
from atrous.networks.build import build_network_from
from atrous.training.norm import (
    count_norm_values,
    describe_few_values,
    freeze_norms,
    set_norm_momentum,
    start_training,
)
from atrous.training.optimizers import build_optimizer


def build():
    torch.manual_seed(0)
    return build_network_from({"name": "deeplabv3-resnet18", "head": {"channels": 8, "rates": [1, 2]}}, 3)


def copy_norms(network):
    return {
        f"{name}.{key}": tensor.clone()
        for name, module in network.named_modules()
        if isinstance(module, _BatchNorm)
        for key, tensor in module.state_dict().items()
    }


def train(network, *, frozen, steps=2):
    optimizer = build_optimizer(network, TrainingConfig(weight_decay=0.1))
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        start_training(network, frozen_norms=frozen)
        network(torch.rand(4, 3, 65, 65, generator=generator)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_frozen_norms_stay_bit_equal_while_the_rest_learns():
    network = build()
    freeze_norms(network)
    norms, weight = copy_norms(network), network.backbone.conv1.weight.detach().clone()
    train(network, frozen=True)
    after = copy_norms(network)
    assert len(norms) > 100
    assert all(torch.equal(after[name], tensor) for name, tensor in norms.items())
    assert not torch.equal(network.backbone.conv1.weight, weight)


def test_trained_norms_learn_all_of_them():
    network = build()
    norms = copy_norms(network)
    train(network, frozen=False)
    unmoved = [name for name, tensor in copy_norms(network).items() if torch.equal(tensor, norms[name])]
    assert unmoved == []


def test_training_mode_leaves_dropout_on_beside_frozen_norms():
    network = build().eval()
    start_training(network, frozen_norms=True)
    assert network.training
    assert not any(m.training for m in network.modules() if isinstance(m, _BatchNorm))
    assert all(m.training for m in network.modules() if isinstance(m, nn.Dropout))
    start_training(network, frozen_norms=False)
    assert all(m.training for m in network.modules())


@pytest.mark.parametrize("momentum", [0.0003, 1.0])
def test_the_momentum_is_the_share_of_a_batch(momentum):
    norm = nn.BatchNorm2d(2)
    set_norm_momentum(nn.Sequential(norm), momentum)
    values = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0)) + 5
    norm(values)
    torch.testing.assert_close(norm.running_mean, momentum * values.mean(dim=(0, 2, 3)))


def build_on_meta(name="deeplabv3-resnet18", **options):
    with torch.device("meta"):
        return build_network_from({"name": name, "head": {"channels": 8, "rates": [1, 2]}, **options}, 3)


@pytest.mark.parametrize(("batch", "crop"), [(2, 33), (5, 65)])
def test_the_values_of_each_norm_are_those_that_it_sees_in_a_step(batch, crop):
    network, seen = build(), {}
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(
                lambda _, inputs, name=name: seen.update({name: inputs[0].transpose(0, 1).flatten(1).shape[1]})
            )
    network.train().forward_cells(torch.zeros(batch, 3, crop, crop, dtype=torch.uint8))
    counts = count_norm_values(build_on_meta(), batch, crop)
    assert counts == seen
    assert counts["backbone.bn1"] == batch * ((crop - 1) // 2 + 1) ** 2
    assert ("head.aspp.pooling.norm" in counts) == (batch >= 4)


@pytest.mark.parametrize(
    ("changes", "codes", "text"),
    [
        ({"batch": 2, "crop": 129}, 1, "image-level branch: a batch of 2"),  # 2 x 9 x 9 values at the deepest level
        ({"batch": 2, "crop": 33}, 2, "see fewer than 32 values per channel"),  # 2 x 3 x 3
        ({"batch": 4, "crop": 33}, 0, ""),
        ({"batch": 2, "crop": 33, "norm": "frozen"}, 0, ""),
    ],
)
def test_norms_with_few_values_are_named_with_what_helps(changes, codes, text):
    notes = describe_few_values(build_on_meta(), TrainingConfig(**changes))
    assert [note.code for note in notes] == ["few-values-per-norm"] * codes
    assert not notes or text in notes[-1]
    if codes == 2:
        assert "as few as 18" in notes[1]
        assert "a larger `batch` or `crop` or a smaller model.output_stride" in notes[1]


def test_a_norm_with_a_single_value_is_refused():
    with pytest.raises(ConfigError, match="sees a single value per channel") as caught:
        describe_few_values(build_on_meta("fcn-resnet18", head={}, output_stride=32), TrainingConfig(batch=1, crop=1))
    assert "training.norm=frozen" in caught.value.hint


def test_norms_of_several_processes_see_the_values_of_all(two_processes):
    """Each has two images of 3 x 3 cells, of which its own norms would see 18 values."""
    log = (Path(two_processes[0]["folder"]) / "whole" / "log.txt").read_text()
    assert "batch norm: trained, 36 values per norm at the deepest level, 4 in the image-level branch" in log
    assert "see fewer than" not in log
    assert "too small for its batch norm" not in log
