"""Trainings in stages: each from the weights of the one before, and killed anywhere the same as a whole one."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

import atrous
import tiny
from atrous import api
from atrous.cli.main import main
from atrous.config.load import load_config
from atrous.config.run_settings import list_settings
from atrous.core.files import load_json
from atrous.core.records import Scores
from atrous.data.datasets.shapes import build_shapes
from atrous.runs.stages import find_hard_classes
from atrous.training.checkpoint import load_checkpoint

COMMON = {
    "data.source": "shapes",
    "data.options": {"num_train": 12, "num_val": 2, "size": 65},
    "model.name": "deeplabv3-tiny",
    "model.weights": "none",
    "model.head": {"rates": [1, 2], "channels": 8},
    "training.iterations": 3,
    "training.batch": 2,
    "training.crop": 65,
    "training.validations": 1,
    "training.ema_decay": 0.0,
    "training.optimizer": "sgd",
    "training.lr": 0.02,
    "training.head_lr_factor": 1.0,
}
STAGES = [
    {"training.norm_momentum": 0.05},
    {"model.output_stride": 8, "training.norm": "frozen", "training.lr": 0.005, "training.hard_classes": "auto"},
]


def load(folder, **options):
    return load_config(options={**COMMON, "output.folder": str(folder), "stages": STAGES, **options})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two stages and what it said."""
    folder, said = tmp_path_factory.mktemp("runs") / "whole", []
    run = api.run_training(load(folder), on_message=said.append)
    assert not run.interrupted
    return run, said


def assert_same_ends(one, other):
    for name in ("stage-1/model.safetensors", "model.safetensors"):
        first, second = load_file(one / name), load_file(other / name)
        assert first.keys() == second.keys()
        assert [key for key in first if not torch.equal(first[key], second[key])] == []


def test_each_stage_is_a_run_of_its_own_at_its_own_stride(whole):
    run, said = whole
    first = run.folder / "stage-1"
    assert {"config.yaml", "metrics.json", "metrics.csv", "model.safetensors", "last.ckpt", "report.html"} <= {
        path.name for path in first.iterdir()
    }
    assert (atrous.load(first).output_stride, atrous.load(run.folder).output_stride) == (16, 8)
    assert run.model.card.model["output_stride"] == 8
    assert run.scores.protocol.output_stride == 8
    assert [line for line in said if line.startswith("stage ")] == [
        f"stage 1 of 2: {first}",
        f"stage 2 of 2: {run.folder}",
    ]
    assert atrous.evaluate(run.folder).miou == run.scores.miou
    assert load_config(recipe=run.folder / "config.yaml").config.stages == load(run.folder).config.stages


def test_every_card_tells_what_the_run_started_from_and_the_hash_of_all_its_settings(whole):
    run, _ = whole
    recipe = load_config(recipe=run.folder / "config.yaml").config
    expected = hashlib.sha256(json.dumps(list_settings(recipe)).encode()).hexdigest()
    for card in (run.model.card, atrous.load(run.folder / "stage-1").card):
        assert (card.model["weights"], card.recipe_sha256) == ("none", expected)


def test_the_report_of_the_run_lists_its_stages(whole):
    run, _ = whole
    page = run.report.read_text(encoding="utf-8")
    first, last = (load_json(folder / "metrics.json")["miou"] for folder in (run.folder / "stage-1", run.folder))
    assert f'<td class="num">{first:.3f}</td><td>stage-1</td>' in page
    assert f'<td class="num">{last:.3f}</td><td>this run</td>' in page
    assert 'id="stages"' not in (run.folder / "stage-1" / "report.html").read_text(encoding="utf-8")


def test_the_second_stage_begins_at_the_first_ones_best_weights_and_keeps_frozen_norms(whole):
    run, said = whole
    before, after = load_file(run.folder / "stage-1" / "model.safetensors"), load_file(run.folder / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    norms = [
        f"{name}.{key}"
        for name, module in run.model.network.named_modules()
        if isinstance(module, torch.nn.BatchNorm2d)
        for key in module.state_dict()
    ]
    assert norms
    assert changed.isdisjoint(norms)
    assert "head.classifier.weight" in changed  # it learnt, from the first stage's and not from random ones:
    moved = (before["head.classifier.weight"] - after["head.classifier.weight"]).norm()
    assert moved < 0.2 * before["head.classifier.weight"].norm()
    assert any(line.startswith(f"weights: {len(before)} tensors loaded from") for line in said)


def test_the_classes_that_the_first_stage_scored_lowest_stand_twice_in_a_pass(whole):
    run, said = whole
    names = find_hard_classes(Scores.from_json(load_json(run.folder / "stage-1" / "metrics.json")))
    train = api.rebuild_splits(run.folder).train
    hard = {train.label_space.ids[train.label_space.index_of(name)] for name in names}
    holding = sum(bool(hard & set(train.mask(index).ravel().tolist())) for index in range(len(train)))
    assert holding > 0
    (line,) = [line for line in said if " times per epoch" in line]
    assert line.startswith(
        f"images with {', '.join(names)} appear 2 times per epoch: {12 + holding} images per epoch instead of 12"
    )
    plan = load_checkpoint(run.folder / "last.ckpt").record["plan"]
    assert plan["steps_per_epoch"] == (12 + holding) / 2


@pytest.mark.parametrize(("stage", "step"), [(1, 2), (1, 3), (2, 2)])
def test_a_run_interrupted_in_either_stage_and_resumed_is_bit_equal(whole, tmp_path, stage, step):
    folder, seen = tmp_path / "parts", []

    def interrupt(at):
        if (at.stage, at.done) == ("training", step):
            seen.append(at)
            if len(seen) == stage:
                os.kill(os.getpid(), signal.SIGTERM)

    stopped = api.run_training(load(folder), progress=interrupt)
    assert stopped.interrupted
    assert stopped.report.is_file()
    assert (folder / "last.ckpt").is_file() == (stage == 2)
    command = f"atrous train --resume {folder}<"
    assert (command in stopped.report.read_text(encoding="utf-8")) == (stage == 2 or step == 2)
    has_finished = (
        stage == 2 or step == 3
    )  # asked at its last step, the first stage ends, and the second does not begin
    assert load_json(folder / "stage-1" / "metrics.json")["training"]["interrupted"] != has_finished
    written = (folder / "stage-1" / "last.ckpt").stat().st_mtime_ns
    said = []
    resumed = api.run_training(load_config(recipe=folder / "config.yaml"), resume=folder, on_message=said.append)
    assert not resumed.interrupted
    assert ("stage 1 had finished" in said) == has_finished
    assert ((folder / "stage-1" / "last.ckpt").stat().st_mtime_ns == written) == has_finished  # and is not repeated
    assert_same_ends(whole[0].folder, folder)


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("stage-1/last.ckpt", marks=pytest.mark.slow),
        pytest.param("stage-1/report.html", marks=pytest.mark.slow),
        "last.ckpt",
    ],
)
def test_a_killed_run_goes_on_from_the_command_line_to_the_same_end(whole, tmp_path, place):
    recipe, folder = whole[0].folder / "config.yaml", tmp_path / "killed"
    words = ["train", "--recipe", str(recipe), "--out", str(folder), "--quiet"]
    process = subprocess.Popen([sys.executable, tiny.__file__, *words], start_new_session=True)
    while not (folder / place).is_file() and process.poll() is None:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait(timeout=200) == -signal.SIGKILL
    assert main(["train", "--resume", str(folder), "--quiet", "--json"]) == 0
    assert_same_ends(whole[0].folder, folder)


def test_a_stage_is_not_resumed_alone(whole):
    folder = whole[0].folder / "stage-1"
    loaded = load_config(recipe=folder / "config.yaml")
    with pytest.raises(atrous.UsageError, match="stage-1 is a stage of ") as caught:
        api.run_training(loaded, resume=folder)
    assert caught.value.hint.endswith(f"--resume {whole[0].folder}")


def test_a_resumed_run_keeps_its_stages(whole):
    changed = [STAGES[0], STAGES[1] | {"training.lr": 0.5}]
    with pytest.raises(atrous.UsageError, match="stages differs from the original run"):
        api.run_training(load(whole[0].folder, stages=changed), resume=whole[0].folder)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model.head": {"rates": [9]}}, "rate 18 reaches beyond it"),
        ({"training.loss": "ohm"}, "unknown loss 'ohm'"),
        ({"training.hard_classes": ["sofa"]}, "training.hard_classes: the data have no class 'sofa'"),
        ({"training.class_weights": [1.0]}, "training.class_weights: 1 weight for"),
    ],
)
def test_a_later_stage_that_cannot_be_is_refused_before_anything_is_written(tmp_path, settings, words):
    folder = tmp_path / "run"
    with pytest.raises(atrous.ConfigError, match=words):
        api.run_training(load(folder, stages=[{}, {"model.output_stride": 8, **settings}]))
    assert not folder.exists()


def test_a_dry_run_tells_every_stage(tmp_path):
    lines = api.plan_training(load(tmp_path / "run"))
    assert [line for line in lines if line.startswith(("stage", "model"))] == [
        "stage 1 of 2:",
        next(line for line in lines if "output stride 16, rates 1, 2" in line),
        "stage 2 of 2:",
        next(line for line in lines if "output stride 8, rates 2, 4" in line),
    ]
    assert not (tmp_path / "run").exists()


def test_data_given_as_objects_are_every_stages(tmp_path):
    splits = build_shapes(num_train=2, num_val=1, size=65)
    with pytest.raises(atrous.ConfigError, match="stages: one sets a key of data"):
        atrous.train(splits, out=tmp_path / "run", set={"stages": [{}, {"data.split.train": "trainval"}]}, iterations=1)
