from __future__ import annotations

import sys

import pytest
import torch

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
        ({"training.optimizer_options": {"betas": [0.9, 0.99]}}, ConfigError, "training.optimizer_options.betas"),
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
