from __future__ import annotations

import re
import sys

import pytest
import torch
from safetensors.torch import save_file

import atrous
from atrous.config.load import load_config
from atrous.core.errors import ConfigError, MachineError, ModelFileError
from atrous.training.feasibility import require_feasible


@pytest.mark.parametrize(
    ("settings", "kind", "message"),
    [
        ({"model.name": "deeplabv3-resnet19"}, ConfigError, "unknown backbone 'resnet19'"),
        ({"model.head": {"rats": [6]}}, ConfigError, "model.head.rats: unknown option"),
        ({"training.crop": 257}, ConfigError, "training.crop: at 257 pixels"),
        ({"training.loss": "ohm"}, ConfigError, "unknown loss 'ohm'"),
        ({"training.loss_options": {"threshold": 1}}, ConfigError, "training.loss_options.threshold"),
        ({"training.optimizer": "adam"}, ConfigError, "unknown optimizer 'adam'"),
        ({"training.optimizer_options": {"alpha": 0.9}}, ConfigError, "training.optimizer_options.alpha"),
        ({"model.weights": "no/weights.pth"}, ModelFileError, "model.weights: no/weights.pth: no such file"),
        ({"evaluation.backend": "openvin"}, ConfigError, "unknown backend 'openvin'"),
        ({"evaluation.backend": "pt2"}, ConfigError, "runs exported files, not networks"),
        ({"evaluation.output_stride": 256}, ConfigError, "output stride 256 is not offered"),
        ({"evaluation.crf": {"gaussian": 1}}, ConfigError, "evaluation.crf.gaussian: unknown option"),
        ({"output.device": "cuda:99"}, MachineError, "device 'cuda:99' cannot be used here"),
        ({"output.logger": ["wandb"]}, MachineError, "the tracker wandb is not installed"),
    ],
)
def test_what_needs_no_data_is_refused_without_them(settings, kind, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    given = {"model.name": "deeplabv3-resnet18", "model.weights": "none", "training.crop": 321, **settings}
    with pytest.raises(kind, match=message):
        require_feasible(load_config(options=given).config)


@pytest.mark.parametrize("name", ["deeplabv3-lite0", "pspnet-resnet18", "deeplabv3-cascade-resnet18", "fcn-resnet50"])
def test_sound_settings_pass_without_drawing_a_random_number(name):
    torch.manual_seed(7)
    state = torch.random.get_rng_state()
    require_feasible(load_config(options={"model.name": name, "model.weights": "none"}).config)
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.png"])
@pytest.mark.parametrize("kind", ["bytes", "other tensors", "another backbone"])
def test_weights_that_cannot_be_loaded_are_refused_without_the_data(tmp_path, name, kind):
    file = tmp_path / name
    state = {"a": torch.zeros(2)}
    if kind == "another backbone":
        state = atrous.build("fcn-resnet34", classes=2).backbone.state_dict()
    if kind == "bytes":
        file.write_bytes(b"no tensors at all")
    elif file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save(state, file)
    options = {"model.name": "fcn-resnet18", "model.weights": str(file)}
    with pytest.raises(ModelFileError, match=re.escape(str(file))):
        require_feasible(load_config(options=options).config)


def test_weights_that_fit_pass_without_a_warning(tmp_path, recwarn):
    file = tmp_path / "w.pth"
    torch.save(atrous.build("fcn-resnet18", classes=5).state_dict(), file)
    options = {"model.name": "fcn-resnet18", "model.weights": str(file)}
    require_feasible(load_config(options=options).config)
    assert not list(recwarn)
