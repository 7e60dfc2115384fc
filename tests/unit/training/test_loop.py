"""The three parts of a training, each on its own: prepare, loop, conclude."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from atrous.config.load import load_config
from atrous.config.run_settings import list_settings
from atrous.core.errors import DataError
from atrous.core.metrics_file import is_finished, load_metrics
from atrous.core.run_folder import RunFolder
from atrous.data.build import check_training_data
from atrous.data.datasets.shapes import build_shapes
from atrous.networks.layers import ways
from atrous.networks.model_card import read_card
from atrous.networks.model_file import load_model
from atrous.training.checkpoint import load_checkpoint
from atrous.training.conclude import conclude_training
from atrous.training.journal import Journal
from atrous.training.loop import run_steps
from atrous.training.prepare import Training, prepare_training
from atrous.training.world import World

OPTIONS = {
    **{"data.source": "shapes", "model.name": "fcn-tiny", "model.weights": "none", "training.crop": 65},
    **{"training.batch": 2, "training.iterations": 2, "training.validations": 1, "training.precision": "fp32"},
}


def prepare(folder, *, num_train=12, checkpoint=None, world=None, **options) -> Training:
    config = load_config(options=OPTIONS | options).config
    splits = build_shapes(num_train=num_train, num_val=2, size=65)
    statistics, _ = check_training_data(config.data, splits)
    folder.mkdir(exist_ok=True)
    return prepare_training(
        config,
        splits,
        statistics,
        Journal(RunFolder(folder)),
        settings=list_settings(config),
        world=world or World.alone(),
        started=time.monotonic(),
        checkpoint=checkpoint,
    )


def test_preparing_fixes_the_length_and_writes_no_weights(tmp_path):
    training = prepare(tmp_path, **{"training.accumulate": 3})
    assert (training.plan.total_steps, training.plan.samples_per_step) == (2, 6)
    assert training.state.step == 0
    assert list(tmp_path.iterdir()) == []  # not even a log, before it is certain that there will be a run
    training.journal.begin()
    assert (tmp_path / "log.txt").read_text().splitlines()[-1].startswith("plan: 2 steps")


def test_the_loop_leaves_a_checkpoint_a_curve_and_the_best_model(tmp_path):
    training = prepare(tmp_path)
    before = {name: tensor.clone() for name, tensor in training.network.state_dict().items()}
    assert run_steps(training) is False
    assert training.state.step == 2
    assert training.state.best_step == 2
    checkpoint = load_checkpoint(training.run.checkpoint)
    assert checkpoint.step == 2
    assert checkpoint.record["settings"] == list_settings(training.config)
    assert [row["step"] for row in training.journal.rows] == [2]
    assert read_card(training.run.model).score == training.state.best_scores.miou
    after = training.network.state_dict()
    assert any(not torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_only_the_writer_writes(tmp_path):
    training = prepare(tmp_path, **{"training.iterations": 1})
    training.journal._is_writer = False
    run_steps(replace(training, world=replace(training.world, rank=1, size=2)))
    assert training.state.best_scores is not None
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    run_steps(prepare(tmp_path / "a"))
    checkpoint = load_checkpoint(RunFolder(tmp_path / "a").checkpoint)
    with pytest.raises(DataError, match="its data have changed"):
        prepare(tmp_path / "b", num_train=14, checkpoint=checkpoint)


def test_concluding_before_any_validation_saves_the_weights_without_a_score(tmp_path):
    training = prepare(tmp_path)
    conclude_training(training, interrupted=True)
    metrics = load_metrics(training.run.metrics)
    assert (metrics["miou"], metrics["examples"], metrics["training"]["steps"]) == (None, [], 0)
    assert not is_finished(training.run.metrics)
    network, card = load_model(training.run.model)
    assert card.score is None
    for name, tensor in training.averaged.network.state_dict().items():
        assert torch.equal(network.state_dict()[name], tensor)


def test_concluding_keeps_the_best_weights_and_names_the_examples(tmp_path):
    training = prepare(tmp_path)
    run_steps(training)
    validated = training.state.best_scores
    assert (validated.bands, validated.parts, validated.intervals) == ((), (), None)  # no one reads them in between
    best = load_model(training.run.model)[0].state_dict()
    with torch.no_grad():
        for parameter in training.averaged.network.parameters():
            parameter.zero_()  # as later and worse weights would
    metrics = conclude_training(training, interrupted=False)
    assert is_finished(training.run.metrics)
    assert metrics["miou"] == validated.miou
    assert [row["iou"] for row in metrics["classes"]] == [row.iou for row in validated.classes]
    assert metrics["intervals"] is not None
    assert len(metrics["bands"]) == 2
    assert len(metrics["parts"]) == 3
    chosen = load_model(training.run.model)[1].chosen
    assert chosen.reason == "2 images of shapes val are too few to choose on"
    assert metrics["calibration"]["chosen"]["reason"] == chosen.reason
    assert training.validator.labeller.chosen.temperature == 1.0
    assert all((tmp_path / row["image"]).is_file() for row in metrics["examples"])
    for name, tensor in load_model(training.run.model)[0].state_dict().items():
        assert torch.equal(best[name], tensor)


@pytest.mark.parametrize(
    ("batch", "norm", "is_noted"), [(3, "trained", True), (4, "trained", False), (3, "frozen", False)]
)
def test_a_batch_too_small_for_the_image_level_norm_is_noted(tmp_path, batch, norm, is_noted):
    options = {"model.name": "deeplabv3-tiny", "model.head": {"rates": (1, 2, 3)}, "training.norm": norm}
    training = prepare(tmp_path, **options, **{"training.batch": batch})
    codes = [note.code for note in training.journal.notes]
    assert ("few-values-per-norm" in codes) == is_noted


@pytest.mark.parametrize(("precision", "is_noted"), [("bf16", True), ("fp32", False), ("auto", False)])
def test_bf16_on_a_cpu_without_it_is_noted(tmp_path, precision, is_noted, monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    training = prepare(tmp_path, **{"training.precision": precision})
    assert ("bf16-slow" in [note.code for note in training.journal.notes]) == is_noted


def test_how_convolutions_are_computed_is_recorded_and_compared(tmp_path, monkeypatch):
    options = {"model.name": "deeplabv3-tiny", "model.head": {"rates": (1, 2)}}
    monkeypatch.setattr(ways, "KIND", "avx2")
    training = prepare(tmp_path, **options)
    run_steps(training)
    metrics = conclude_training(training, interrupted=False)
    assert "weight gradient" in metrics["training"]["computed"]
    assert [each["rate"] for each in metrics["convolutions"]][-1] == (2, 2)
    checkpoint = load_checkpoint(training.run.checkpoint)
    again = prepare(tmp_path, checkpoint=checkpoint, **options)
    assert "other-convolutions" not in [note.code for note in again.journal.notes]
    monkeypatch.setattr(ways, "KIND", "other")
    [note] = [each for each in prepare(tmp_path, checkpoint=checkpoint, **options).journal.notes if "conv" in each.code]
    assert str(note).startswith("the run began with convolutions on avx2: ")
