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
from atrous.training.fabric import build_fabric
from atrous.training.prepare import build_task


def test_the_arithmetic_is_that_of_the_configuration():
    for precision, name in (("fp32", "32-true"), ("bf16", "bf16-mixed")):
        config = Config.model_validate({"training": {"precision": precision}, "output": {"device": "cpu"}})
        assert build_fabric(config).strategy.precision.precision == name
    fabric = build_fabric(Config.model_validate({"output": {"device": "cpu"}}))
    assert fabric.strategy.precision.precision == ("bf16-mixed" if computes_bf16("cpu") else "32-true")
    assert fabric.device.type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_device_that_is_not_there_is_said_in_words():
    with pytest.raises(MachineError, match="device 'cuda' cannot be used"):
        build_fabric(Config.model_validate({"output": {"device": "cuda"}}))


def build_settled_task(said=None, **settings):
    statistics = MaskStatistics(np.array([100, 25, 4]), np.ones((1, 3), bool), {}, 1, 65)
    network = build_network_from({"name": "fcn-resnet18"}, 3)
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
