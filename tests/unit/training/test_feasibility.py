from __future__ import annotations

import sys

import pytest
import torch

from atrous.config.load import load_config
from atrous.core.errors import ConfigError, MachineError, ModelFileError
from atrous.networks.build import build_network_from
from atrous.training.feasibility import require_cells, require_feasible


def build(name="deeplabv3-resnet18", **options):
    return build_network_from({"name": name, **options}, 3)


def test_a_crop_on_which_a_rate_has_no_cell_is_refused_with_both_remedies():
    network = build()
    with pytest.raises(ConfigError, match="at 257 pixels the feature map is 17 cells wide, and rate 18") as caught:
        require_cells(network, 257)
    assert "`crop=321`" in caught.value.hint
    assert "model.head.rates=[3, 6, 9]" in caught.value.hint
    require_cells(network, 321)
    require_cells(build(head={"rates": [3, 6, 9]}), 257)


@pytest.mark.parametrize("output_stride", [4, 8, 16, 32])
def test_the_remedies_hold_at_every_output_stride(output_stride):
    network = build(output_stride=output_stride)
    with pytest.raises(ConfigError) as caught:
        require_cells(network, 257)
    assert "`crop=321`" in caught.value.hint
    require_cells(network, 321)
    if "head.rates" in caught.value.hint:
        require_cells(build(output_stride=output_stride, head={"rates": [3, 6, 9]}), 257)
    else:
        with pytest.raises(ConfigError):
            build(output_stride=output_stride, head={"rates": [3, 6, 9]})


@pytest.mark.parametrize("crop", [1, 16, 65])
def test_rates_are_not_offered_where_half_of_them_have_no_cell_either(crop):
    with pytest.raises(ConfigError) as caught:
        require_cells(build(), crop)
    assert caught.value.hint == "Use `crop=321` or more."


def test_at_the_refused_crop_the_side_taps_have_no_gradient_and_at_the_remedy_they_do():
    torch.manual_seed(0)
    network = build(head={"rates": [6, 12, 18], "channels": 4}).eval()
    for crop, reached in ((257, False), (321, True)):
        network.zero_grad()
        network(torch.rand(1, 3, crop, crop)).square().sum().backward()
        side = network.head.aspp.atrous[2].spatial.conv.weight.grad[:, :, 0, 0]
        assert bool(side.abs().max() > 0) == reached


def test_a_head_without_rates_takes_any_crop():
    require_cells(build("fcn-resnet18"), 1)


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
