from __future__ import annotations

import numpy as np
import pytest
import torch

from atrous.config.schema import Config, TrainingConfig
from atrous.core.errors import ConfigError, MachineError
from atrous.data.statistics import MaskStatistics
from atrous.inference.precision import computes_bf16
from atrous.losses.ohem import OHEM
from atrous.networks.build import build_network_from
from atrous.training.prepare import build_fabric, build_task, choose_workers, require_cells


def build(name="deeplabv3-resnet18", **options):
    return build_network_from({"name": name, **options}, 3)


def test_a_crop_on_which_a_rate_has_no_cell_is_refused_with_both_remedies():
    network = build()
    with pytest.raises(ConfigError, match="at 257 pixels the map is 17 cells wide, and rate 18") as caught:
        require_cells(network, 257)
    assert "--crop 321" in caught.value.hint
    assert "model.head.rates=[3, 6, 9]" in caught.value.hint
    require_cells(network, 321)
    require_cells(build(head={"rates": [3, 6, 9]}), 257)


@pytest.mark.parametrize("output_stride", [4, 8, 16, 32])
def test_the_remedies_hold_at_every_output_stride(output_stride):
    network = build(output_stride=output_stride)
    with pytest.raises(ConfigError) as caught:
        require_cells(network, 257)
    assert "--crop 321" in caught.value.hint
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
    assert caught.value.hint == "Use --crop 321 or more."


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


def test_the_arithmetic_is_that_of_the_configuration():
    for precision, name in (("fp32", "32-true"), ("bf16", "bf16-mixed")):
        config = Config.model_validate({"training": {"precision": precision}, "output": {"device": "cpu"}})
        assert build_fabric(config).strategy.precision.precision == name
    fabric = build_fabric(Config.model_validate({"output": {"device": "cpu"}}))
    assert fabric.strategy.precision.precision == ("bf16-mixed" if computes_bf16("cpu") else "32-true")
    assert fabric.device.type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_said_in_words():
    with pytest.raises(MachineError, match="no device 'cuda'"):
        build_fabric(Config.model_validate({"output": {"device": "cuda"}}))


def test_processes_beside_the_training_only_where_it_leaves_cores_free():
    assert choose_workers(None, torch.device("cpu")) == 0
    assert choose_workers(3, torch.device("cpu")) == 3
    assert choose_workers(0, torch.device("cuda")) == 0
    assert choose_workers(None, torch.device("cuda")) >= 1


def build_settled_task(said=None, **settings):
    statistics = MaskStatistics(np.array([100, 25, 4]), np.ones((1, 3), bool), {}, 1)
    network = build("fcn-resnet18")
    return build_task(
        TrainingConfig(**settings), network, ("a", "b", "c"), statistics, [].append if said is None else said.append
    )


def test_the_task_is_what_the_settings_say():
    task = build_settled_task(loss="ohem", loss_options={"threshold": 0.5}, loss_resolution="cells")
    assert (task.loss, task.resolution, task.class_weights) == (OHEM(threshold=0.5), "cells", None)
    assert build_settled_task(class_weights=(1.0, 2.0, 3.0)).class_weights.tolist() == [1.0, 2.0, 3.0]


def test_weights_by_frequency_are_computed_and_said():
    said = []
    weights = build_settled_task(said, class_weights="auto").class_weights
    torch.testing.assert_close(weights / weights[0], torch.tensor([1.0, 2.0, 5.0]))  # 1 / sqrt of 100, 25, 4
    assert len(said) == 1
    assert "a 0.38, b 0.75, c 1.88" in said[0]


def test_another_number_of_weights_than_classes_is_refused():
    with pytest.raises(ConfigError, match=r"training\.class_weights: 2 weights for 3 classes"):
        build_settled_task(class_weights=(1.0, 2.0))
