"""A batch that is left open: it follows from the memory, is said, and stands in the settings of the run as a number."""

from __future__ import annotations

import pytest
import torch

from atrous.config.load import load_config
from atrous.core.errors import ConfigError, MachineError
from atrous.core.run_folder import RunFolder
from atrous.data.datasets.shapes import build_shapes
from atrous.runs.stages import prepare_stages
from atrous.training import memory
from atrous.training.batch import build_on_device, settle_batch
from atrous.training.memory import MOST_CHOSEN, choose_batch, require_memory
from atrous.training.world import World

DATA = {"data.source": "shapes", "data.options": {"num_train": 32, "num_val": 1, "size": 65}}


def load(**options):
    given = {"model.name": "fcn-tiny", "model.weights": "none", "output.device": "cpu", "training.precision": "fp32"}
    return load_config(options={**DATA, **given, "training.crop": 65, "training.batch": "auto", **options})


@pytest.fixture
def train():
    return build_shapes(num_train=4, num_val=1, size=65).train


def test_half_of_the_memory_holds_the_batch_and_not_one_more_image(monkeypatch, train):
    config = load(**{"training.crop": 513}).config
    network, fabric = build_on_device(config, train)
    for room in range(40, 2000, 160):
        monkeypatch.setattr(memory, "compute_device_bytes", lambda _, room=room: room * 2**20)
        batch = choose_batch(network, config.training, fabric)
        monkeypatch.setattr(memory, "compute_device_bytes", lambda _, room=room: room * 2**19)
        assert 1 <= batch <= MOST_CHOSEN
        settings = [config.training.model_copy(update={"batch": number}) for number in (batch, batch + 1)]
        if batch > 1:
            require_memory(network, settings[0], fabric, World.alone())
        if batch < MOST_CHOSEN:
            with pytest.raises(MachineError):
                require_memory(network, settings[1], fabric, World.alone())


def test_the_batch_is_said_and_random_numbers_stay(monkeypatch, train):
    config = load().config
    state = torch.get_rng_state()
    settled, note = settle_batch(config, train)
    assert torch.equal(torch.get_rng_state(), state)
    assert (settled.training.batch, note) == (16, "batch of 16 images, crop 65: the most that is chosen")
    monkeypatch.setattr(memory, "compute_device_bytes", lambda _: 1)
    settled, note = settle_batch(config, train)
    assert (settled.training.batch, note.code) == (1, "batch-chosen")
    assert note == "batch of 1 image, crop 65: what fits in the memory of cpu"
    assert settle_batch(settled, train) == (settled, None)


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ((), (16, [])),
        (({"training.iterations": 2}, {"training.iterations": 3}), (16, [None, None])),
        (({"training.batch": 3}, {"training.iterations": 3}), ("auto", [3, 16])),
    ],
)
def test_the_settings_of_the_run_hold_a_number(stages, expected, tmp_path):
    loaded = load(**{"training.iterations": 2, "stages": stages} if stages else {"training.iterations": 2})
    found, config = prepare_stages(loaded, RunFolder(tmp_path / "run"), None, None, lambda _: None)
    batch, kept = expected
    assert config.training.batch == batch
    assert [stage.get("training.batch") for stage in config.stages] == kept
    assert [stage.config.training.batch for stage in found] == [number or batch for number in kept or [batch]]


def test_a_batch_that_is_open_is_no_number_yet():
    with pytest.raises(ConfigError, match=r"training\.batch is auto, and a number is needed"):
        _ = load().config.training.batch_size
