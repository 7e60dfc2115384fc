from __future__ import annotations

import numpy as np
import pytest

from atrous.config.load import load_config
from atrous.core.errors import ConfigError
from atrous.data.datasets.shapes import build_shapes
from atrous.data.excerpts import choose_excerpts
from atrous.training.optimizers import choose_rates
from atrous.training.probe import STEPS, choose_probe_crop, learn_excerpts


def load(**options):
    return load_config(options={"data.source": "shapes", "model": "fcn-tiny", "weights": "none", **options}).config


def test_the_crop_is_small_and_large_enough_for_the_rates():
    assert choose_probe_crop(load(), 6) == 257
    assert choose_probe_crop(load(crop=129), 6) == 129
    assert choose_probe_crop(load(model="deeplabv3-tiny"), 6) == 289  # 18 cells of 16 pixels, and one
    with pytest.raises(ConfigError, match="reaches beyond it"):
        choose_probe_crop(load(model="deeplabv3-tiny", crop=129), 6)


def test_the_same_crops_are_learned_alike_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    excerpts = choose_excerpts(build_shapes(num_train=4, num_val=1, size=65).train, 65, 0)
    config = load(crop=65, batch="auto")
    one, other = (learn_excerpts(config, excerpts, 65) for _ in range(2))
    assert one.losses == other.losses
    assert len(one.losses) == STEPS
    assert [prediction.shape for prediction in one.predictions] == [(65, 65)] * 2
    assert np.array_equal(one.predictions[1], other.predictions[1])
    assert [row.pixels for row in one.after.classes] == excerpts.compute_statistics().pixels.tolist()
    assert not list(tmp_path.iterdir())


def test_the_learning_rate_is_that_of_the_training(monkeypatch):
    rates = []
    monkeypatch.setattr("atrous.training.loop.set_lr_factor", lambda optimizer, factor: rates.append(optimizer))
    excerpts = choose_excerpts(build_shapes(num_train=2, num_val=1, size=65).train, 33, 0)
    config = load(crop=33, batch=16)
    learn_excerpts(config, excerpts, 33)
    assert rates[0].param_groups[0]["initial_lr"] == choose_rates(config.training, "none").backbone
