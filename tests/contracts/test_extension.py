"""A part from outside the package is one file and one line in its table, and keeps the contract of its kind."""

from __future__ import annotations

import inspect
import itertools
from pathlib import Path
from types import ModuleType

import pytest
import torch

from atrous.config.schema import Config, TrainingConfig
from atrous.core.errors import ConfigError, ModelFileError
from atrous.inference import BACKENDS
from atrous.losses import LOSSES
from atrous.networks import BACKBONES
from atrous.networks.build import build_network_from, describe_network
from atrous.networks.model_card import ModelCard
from atrous.networks.segmenter import Segmenter
from atrous.networks.weights import start_weights
from atrous.training import OPTIMIZERS
from atrous.training.optimizers import build_optimizer
from contracts import test_backbones, test_backends, test_losses, test_optimizers

GRIDDED = ("gridded", "outside.gridded:Gridded")
GATED = ("gated", "outside.gated:Gated")
FOCAL = ("focal", "outside.focal:Focal")
RMSPROP = ("rmsprop", "outside.rmsprop:build_rmsprop")
ONE_BY_ONE = ("one_by_one", "outside.one_by_one:OneByOne", "network")


def run_contract(module: ModuleType, **arguments: object) -> None:
    """Run the tests that a contract lists in CONTRACT, each with the arguments it takes and with every parameter."""
    for test in module.CONTRACT:
        names = set(inspect.signature(test).parameters)
        marks = [mark for mark in getattr(test, "pytestmark", []) if mark.name == "parametrize"]
        open_marks = [mark for mark in marks if mark.args[0] in names - set(arguments)]
        for values in itertools.product(*(mark.args[1] for mark in open_marks)):
            chosen = {mark.args[0]: value for mark, value in zip(open_marks, values, strict=True)}
            test(**{name: value for name, value in arguments.items() if name in names}, **chosen)


@pytest.mark.parametrize("entry", [GRIDDED, GATED], ids=lambda entry: entry[0])
def test_a_backbone_keeps_the_contract(entry: tuple[str, str]) -> None:
    with BACKBONES.including(entry):
        run_contract(test_backbones, name=entry[0])
        assert describe_network(f"fcn-{entry[0]}")["image_size"] == "padded to 32k + 1, corners aligned"


def test_a_backbone_with_multi_grid_takes_it_from_the_settings() -> None:
    with BACKBONES.including(GRIDDED):
        network = build_network_from({"name": "fcn-gridded", "multi_grid": [1, 2], "output_stride": 16}, 2)
        assert [site.rate for site in network.sites if site.native_out == 32] == [1, 4]
        with pytest.raises(ConfigError, match="resnet152, gridded"):
            build_network_from({"name": "fcn-lite0", "multi_grid": [1, 2]}, 2)


def test_modules_named_as_others_extra_blocks_are_neither_skipped_nor_left_random(tmp_path: Path) -> None:
    """The usual mistake: tensors called `extra.*` or `layer5.*` are taken for a cascade's, which no file holds."""
    torch.manual_seed(0)
    with BACKBONES.including(GRIDDED):
        network = build_network_from({"name": "fcn-gridded"}, 2)
        state = {name: torch.rand(value.shape) for name, value in network.backbone.state_dict().items()}
        path = tmp_path / "gridded.pth"
        torch.save(state, path)
        assert len(start_weights(network, "fcn-gridded", str(path))) == 1  # nothing is new, nothing unused
        for name, value in network.backbone.state_dict().items():
            assert name.endswith("num_batches_tracked") or torch.equal(value, state[name]), name
        for module in ("extra.", "layer5.", "backbone."):
            torch.save({name: value for name, value in state.items() if not name.startswith(module)}, path)
            with pytest.raises(ModelFileError, match=rf"lacks \d+ tensors of gridded, such as {module}"):
                start_weights(network, "fcn-gridded", str(path))


def test_a_backbone_brings_its_weights_and_their_licence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with BACKBONES.including(GATED):
        network = build_network_from({"name": "fcn-gated"}, 2)
        state = {name: torch.rand(value.shape) for name, value in network.backbone.state_dict().items()}
        path = tmp_path / "hub" / "checkpoints" / "gated.pth"
        path.parent.mkdir(parents=True)
        torch.save({name.replace("layers.", "stage"): value for name, value in state.items()}, path)
        assert len(start_weights(network, "fcn-gated", "imagenet")) == 1
        weight = network.backbone.get_parameter("layers.4.0.weight")
        assert torch.equal(weight, state["layers.4.0.weight"])
        assert describe_network("fcn-gated")["imagenet_weights"] == "https://example.org/gated.pth, licence MIT"
        assert describe_network("fcn-gated")["atrous_identity"] == "pooled"
        groups = build_optimizer(network, TrainingConfig(lr=0.1)).param_groups
        assert sorted({group["initial_lr"] for group in groups}) == pytest.approx([0.01, 0.1])


def test_a_loss_keeps_the_contract() -> None:
    with LOSSES.including(FOCAL):
        loss = LOSSES.load("focal")()
        for weights in (None, test_losses.WEIGHTS):
            run_contract(test_losses, loss=loss, weights=weights)


def test_an_optimizer_keeps_the_contract() -> None:
    with OPTIMIZERS.including(RMSPROP):
        run_contract(test_optimizers, name="rmsprop")
        settings = Config.model_validate(
            {"training": {"optimizer": "rmsprop", "lr": 0.01, "optimizer_options": {"alpha": 0.5}}}
        )
        optimizer = test_optimizers.build_optimizer(test_optimizers.build_tiny(), settings.training)
        assert {(group["alpha"], group["momentum"]) for group in optimizer.param_groups} == {(0.5, 0.9)}


def test_a_backend_keeps_the_contract(tiny_network: Segmenter, tiny_card: ModelCard) -> None:
    with BACKENDS.including(ONE_BY_ONE):
        build = test_backends.choose_backend("one_by_one", tiny_network, tiny_card)
        run_contract(test_backends, build=build, tiny_network=tiny_network, tiny_card=tiny_card)
