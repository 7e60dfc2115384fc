"""The benchmark of learning: that it runs whole, continues, and compares what it says it compares."""

from __future__ import annotations

import csv
import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import atrous
from atrous.data.datasets.shapes import build_shapes
from atrous.metrics.confusion import compute_miou

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def learning(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import learning

    return learning


def test_it_runs_whole_and_does_not_repeat_what_is_done(learning, tmp_path, monkeypatch, capsys):
    words = [
        "--smoke",
        "--model",
        "deeplabv3-tiny",
        "--batch",
        "2",
        "--steps",
        "2",
        "--peer-rates",
        "0.01",
        "--seeds",
        "3",
    ]
    places = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["learning.py", *words, *places])
    learning.main()
    (row,) = learning.read_table(tmp_path / "out" / "learning_compared.csv")
    assert abs(float(row["difference"])) < 1
    assert row["from"] == row["to"] == ""  # three images are too few to say
    capsys.readouterr()
    learning.main()
    assert "steps, seed 3" not in capsys.readouterr().out  # nothing is trained a second time
    assert len(learning.read_table(tmp_path / "out" / "learning.csv")) == 2
    # What the benchmark counts of our model is what the training's own validation counted.
    (run,) = (tmp_path / "work").glob("*/atrous-*/run")
    own = learning.json.loads((run / "metrics.json").read_text())["confusion"]
    with np.load(next((tmp_path / "out" / "counts").glob("*/atrous-*.npz"))) as stored:
        assert stored["counts"].sum(0).tolist() == own


def test_a_recipe_spells_its_defaults_out(learning):
    task = learning.Task("smoke", learning.SMOKE, learning.SMOKE.build(None))
    defaults = learning.describe_recipe(task, "atrous", {})
    assert "weights=none lr=0.001 head_lr=0.001 weight_decay=0.01" in defaults  # the rule for random weights
    changed = {"training.lr": 0.5, "training.jitter": 0.25, "model.auxiliary": True, "training.norm": "frozen"}
    words = learning.describe_recipe(task, "atrous", changed).split()
    assert {"lr=0.5", "head_lr=0.5", "jitter=0.25", "model.auxiliary=true", "norm=frozen"} <= set(words)
    assert {"jitter=0.0", "optimizer=adamw"} <= set(defaults.split())


def test_a_peer_that_was_cut_off_ends_as_if_it_had_not_been(learning, tmp_path, monkeypatch):
    import learning_peer

    data = build_shapes(num_train=6, num_val=1, size=65).train
    training = learning.TrainingConfig(crop=65, batch=2, lr=0.01)

    class CutOffError(Exception):
        pass

    def stop(step: int) -> None:
        if step == 2:
            raise CutOffError

    whole = learning_peer.train_peer(data, training, 3, tmp_path / "a", weights="none", on_step=lambda _: None)
    monkeypatch.setattr(learning_peer, "CHECKPOINT_S", 0.0)
    with pytest.raises(CutOffError):
        learning_peer.train_peer(data, training, 3, tmp_path / "b", weights="none", on_step=stop)
    resumed = learning_peer.train_peer(data, training, 3, tmp_path / "b", weights="none", on_step=lambda _: None)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0, msg=name)


def test_the_peer_starts_from_the_same_weights(learning):
    import learning_peer

    peer = learning_peer.build_peer(3, weights="imagenet").eval()
    network = atrous.build("deeplabv3-lite0", classes=3, weights="imagenet").eval()
    image = torch.rand(1, 3, 97, 129, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        ours, theirs = network.backbone(image)[3], peer.encoder(image)[4]
    torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)


def test_scores_are_those_of_atrous_and_intervals_hold_the_difference(learning):
    counts = np.random.default_rng(0).integers(0, 50, (40, 3, 3))
    counts[:, 2] = counts[:, :, 2] = 0  # a class that does not occur
    better = counts + 20 * np.diag([1, 1, 0])
    constant = (np.arange(3) == counts.sum((0, 2)).argmax()) * counts.sum((0, 2))[:, None]
    assert learning.Result(counts, "").baseline == pytest.approx(compute_miou(constant))
    difference = learning.resample_difference([better], [counts])
    assert difference.value == pytest.approx(compute_miou(better.sum(0)) - compute_miou(counts.sum(0)))
    assert 0 < difference.low < difference.value < difference.high
    assert learning.resample_difference([counts], [counts]).interval == (0, 0)


@pytest.fixture
def stability(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import stability

    return stability


def read_rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_short_trainings_of_small_and_large_steps_are_told_from_those_that_diverge(
    stability, tmp_path, monkeypatch, capsys
):
    words = ["stability.py", "--smoke", "--model", "deeplabv3-tiny", "--out", str(tmp_path), "--work"]
    monkeypatch.setattr(sys, "argv", [*words, str(tmp_path / "work")])
    stability.main()
    rows = read_rows(tmp_path / "stability.csv")
    assert [(row["images"], row["precision"], row["is_finite"]) for row in rows] == [
        ("2", "fp32", "yes"),
        ("4", "bf16", "yes"),
    ]
    assert "accumulate=2" in rows[1]["recipe"]
    for row in rows:
        assert (row["is_better"] == "yes") == (float(row["miou"]) > float(row["baseline"]))
    # One that diverges has a row as well, which replaces the one before, and the others follow.
    settings = {**stability.SMOKE.settings, "training.optimizer": "sgd", "training.lr": 1e9}
    monkeypatch.setattr(stability, "SMOKE", dataclasses.replace(stability.SMOKE, settings=settings))
    monkeypatch.setattr(sys, "argv", [*words, str(tmp_path / "other")])
    stability.main()
    rows = read_rows(tmp_path / "stability.csv")
    assert [row["is_finite"] for row in rows] == ["no", "no"]
    assert "0 of 2 trainings" in capsys.readouterr().out


def test_every_set_meets_every_kind_of_step(stability):
    trainings = list(stability.list_trainings())
    assert len(trainings) == len(set(trainings)) == 24
    images = {step.batch * step.accumulate for _, step, _ in trainings}
    crops = {step.crop for _, step, _ in trainings}
    assert (min(images), max(images), min(crops), max(crops)) == (2, 32, 129, 513)
    for step in (*stability.SMALL, stability.MIDDLE, stability.LARGEST):
        assert {precision for _, each, precision in trainings if each == step} == {"fp32", "bf16"}
