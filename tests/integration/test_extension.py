"""A run that is trained for longer: from the step on where it is extended, the schedule of the new length holds."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal

import pytest
import torch

import atrous
from atrous import api
from atrous.cli.main import main
from atrous.config.load import load_config
from atrous.core.errors import ConfigError, UsageError
from atrous.core.run_folder import RunFolder
from atrous.core.seeds import compute_step_seed
from atrous.data.build import build_loader, check_training_data, list_pass
from atrous.runs.kept_images import rebuild_splits
from atrous.training.checkpoint import load_checkpoint, save_checkpoint
from atrous.training.crop import build_trainable
from atrous.training.norm import set_norm_momentum
from atrous.training.optimizers import build_optimizer
from atrous.training.prepare import build_task
from compared import assert_same_runs, read_rows
from tiny import RUN_OPTIONS

STEPS, LONGER = 8, 14
WARMUP = 0.75
OPTIONS = [*RUN_OPTIONS, "--precision", "fp32", "--set", f"training.warmup_fraction={WARMUP}"]  # as the plain loop


@pytest.fixture(scope="module")
def short(shapes_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "short"
    assert main(["train", str(shapes_folder), *OPTIONS, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def extended(short, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "extended"
    shutil.copytree(short, folder)
    assert main(["train", "--extend", str(folder), "--iterations", str(LONGER), "--quiet"]) == 0
    return folder


def compute_factor(step, total):
    """The schedule, written down once more: a rise over the warm-up on top of a falling power."""
    rising = round(WARMUP * total)
    return (1.0 - step / total) ** 0.9 * min((step + 1) / (rising + 1), 1.0)


def train_plainly(folder, total_of):
    """Train with a loop of plain PyTorch, whose total at each step is given; return weights, averages and momenta."""
    config = load_config(recipe=folder / "config.yaml").config
    training, splits = config.training, rebuild_splits(folder, needed=("train", "val"))
    statistics, _ = check_training_data(config.data, splits)
    space = splits.train.label_space
    torch.manual_seed(training.seed)
    network = build_trainable(config, space.num_classes, None)
    set_norm_momentum(network, training.norm_momentum)
    network.to(memory_format=torch.channels_last)
    averaged = copy.deepcopy(network).eval()
    optimizer = build_optimizer(network, training, config.model.weights)
    task = build_task(training, network, space.names, statistics, lambda text: None)
    network.train()
    loader = build_loader(
        splits.train, training, list_pass(training, space, statistics), start_place=0, num_places=LONGER * 4, workers=0
    )
    for step in range(LONGER):
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * compute_factor(step, total_of(step))
        torch.manual_seed(compute_step_seed(training.seed, step))
        batches = [next(loader) for _ in range(training.accumulate)]
        weight = torch.stack([task.count_weight(batch.labels) for batch in batches]).sum()
        for batch in batches:
            task(batch.images.contiguous(memory_format=torch.channels_last), batch.labels, weight).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), training.clip_norm)
        optimizer.step()
        optimizer.zero_grad()
        share = 1.0 - min(training.ema_decay, (1 + step) / (10 + step))
        own = averaged.state_dict()
        for name, tensor in network.state_dict().items():
            own[name].lerp_(tensor, share) if tensor.is_floating_point() else own[name].copy_(tensor)
    return network.state_dict(), averaged.state_dict(), optimizer.state_dict()["state"]


@pytest.mark.parametrize("changes", [True, False])
def test_an_extended_run_is_a_plain_loop_that_changes_to_the_new_schedule(short, extended, changes):
    total_of = (lambda step: STEPS if step < STEPS else LONGER) if changes else (lambda step: LONGER)
    network, averaged, moments = train_plainly(short, total_of)
    reached = load_checkpoint(extended / "last.ckpt")
    assert reached.step == LONGER
    equal = [
        *(torch.equal(tensor, reached.network[name]) for name, tensor in network.items()),
        *(torch.equal(tensor, reached.averaged[name]) for name, tensor in averaged.items()),
        *(
            torch.equal(tensor, reached.optimizer["state"][key][name])
            for key, own in moments.items()
            for name, tensor in own.items()
        ),
    ]
    assert all(equal) == changes  # with the new schedule from the start the weights are others


def test_settings_curve_record_log_and_report_say_that_it_was_extended_and_from_where(extended):
    config = load_config(recipe=extended / "config.yaml").config.training
    assert (config.iterations, config.extended) == (LONGER, ((STEPS, STEPS),))
    rows = [(row["step"], row["extended_at"]) for row in read_rows(extended)]
    assert rows == [("2", ""), ("4", ""), ("6", ""), ("8", ""), ("10", "8"), ("14", "8")]
    assert json.loads((extended / "metrics.json").read_text())["training"]["extended"] == ["after step 8 of 8"]
    before, after = (0.3 * compute_factor(step, total) for step, total in ((STEPS - 1, STEPS), (STEPS, LONGER)))
    said = (
        f"extended after step 8 of 8 to 14 steps: the learning rate was {before:.3g} at step 8 "
        f"and is {after:.3g} at step 9"
    )
    assert said in (extended / "log.txt").read_text()
    page = (extended / "report.html").read_text(encoding="utf-8")
    assert said in page
    assert "after step 8 of 8" in page


def test_the_settings_of_an_extended_run_start_the_same_run_again(extended, tmp_path):
    again = tmp_path / "again"
    assert main(["train", "--recipe", str(extended / "config.yaml"), "--out", str(again), "--quiet"]) == 0
    assert_same_runs(extended, again)


def interrupt_at(step):
    return lambda at: os.kill(os.getpid(), signal.SIGTERM) if (at.stage, at.done) == ("training", step) else None


def test_a_stopped_run_is_extended_stopped_again_and_resumed_to_the_same_end(extended, tmp_path):
    """It is stopped after its last step of the former length, and once more after two of the new ones."""
    folder = tmp_path / "parts"
    options = {"output.folder": str(folder), "training.iterations": STEPS, "training.extended": []}
    loaded = load_config(recipe=extended / "config.yaml", options=options)
    assert api.run_training(loaded, progress=interrupt_at(5)).interrupted
    assert main(["train", "--resume", str(folder), "--quiet"]) == 0
    loaded = load_config(recipe=folder / "config.yaml", options={"iterations": LONGER})
    assert api.run_training(loaded, extend=folder, progress=interrupt_at(10)).interrupted
    assert main(["train", "--resume", str(folder), "--quiet"]) == 0
    assert_same_runs(extended, folder)


def test_a_kill_before_the_first_checkpoint_of_an_extension_leaves_the_run_as_it_was(short, extended, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(short, folder)
    shutil.copy(extended / "config.yaml", folder / "config.yaml")  # which is written first
    assert main(["train", "--resume", str(folder), "--quiet"]) == 0
    assert_same_runs(short, folder)
    assert load_config(recipe=folder / "config.yaml").config.training.extended == ()
    shutil.copy(extended / "config.yaml", folder / "config.yaml")
    assert main(["train", "--extend", str(folder), "--iterations", str(LONGER), "--quiet"]) == 0
    assert_same_runs(extended, folder)


def test_an_extension_that_is_killed_leaves_a_record_that_says_so(short, extended, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(short, folder)

    def kill(at):
        if (at.stage, at.done) == ("training", 11):
            raise SystemExit  # nothing is concluded

    loaded = load_config(recipe=folder / "config.yaml", options={"iterations": LONGER})
    with pytest.raises(SystemExit):
        api.run_training(loaded, extend=folder, progress=kill)
    before, after = (json.loads((run / "metrics.json").read_text()) for run in (short, folder))
    assert before["training"]["interrupted"] is False
    said = {"interrupted": True, "planned_steps": LONGER, "extended": ["after step 8 of 8"]}
    assert after == {**before, "training": {**before["training"], **said}}
    page = (folder / "report.html").read_text()
    assert f"8 of {LONGER}" in page
    assert f"atrous train --resume {folder}" in page
    assert "atrous train --resume" not in (short / "report.html").read_text()
    assert main(["train", "--resume", str(folder), "--quiet"]) == 0
    assert_same_runs(extended, folder)
    assert json.loads((folder / "metrics.json").read_text())["training"]["interrupted"] is False


def test_a_run_of_a_version_that_knew_no_extension_is_continued_and_extended_likewise(short, extended, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(short, folder)
    state = load_checkpoint(folder / "last.ckpt")
    for name in ("training.extended", "training.patience"):
        del state.record["settings"][name]
    save_checkpoint(folder / "last.ckpt", state)
    with pytest.raises(UsageError, match=r"training.patience differs from the original run"):
        atrous.train(resume=folder, patience=2)
    shutil.copy(extended / "config.yaml", folder / "config.yaml")  # killed before its first checkpoint
    assert main(["train", "--resume", str(folder), "--quiet"]) == 0
    assert_same_runs(short, folder)
    assert main(["train", "--extend", str(folder), "--iterations", str(LONGER), "--quiet"]) == 0
    assert_same_runs(extended, folder)


def test_what_cannot_be_extended_is_said_and_left_as_it_is(short, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(short, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for given, error, words in (
        ({"iterations": STEPS}, ConfigError, "an extended run becomes longer: 8 steps planned"),
        ({}, UsageError, "the new length of the run is missing"),
        ({"iterations": LONGER, "lr": 0.1}, UsageError, "training.lr differs from the original run"),
        ({"iterations": LONGER, "resume": folder}, UsageError, "`resume` continues a run as it was planned"),
    ):
        with pytest.raises(error, match=words):
            atrous.train(extend=folder, **given)
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    with pytest.raises(UsageError) as caught:
        atrous.train(resume=folder, iterations=LONGER)
    assert f"atrous train --extend {folder}" in caught.value.hint
    (folder / "last.ckpt").unlink()
    assert main(["train", "--extend", str(folder), "--epochs", "9"]) == 4
    assert "it has no last.ckpt" in " ".join(capsys.readouterr().err.split())


def test_minutes_are_those_of_the_whole_run(short, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(short, folder)
    spent = json.loads((folder / "metrics.json").read_text())["training"]["seconds"]
    with pytest.raises(ConfigError, match="is too short for one step"):
        atrous.train(extend=folder, max_minutes=round(spent / 60 + 0.01, 4))


STAGES = [{"training.norm_momentum": 0.05}, {"training.iterations": 2, "training.norm": "frozen"}]


def test_the_last_of_several_stages_is_extended(tmp_path):
    folder = tmp_path / "run"
    options = {"model": "fcn-tiny", "weights": "none", "iterations": 3, "crop": 65, "batch": 2, "validations": 1}
    settings = {"data.options": {"num_train": 12, "num_val": 2, "size": 65}, "stages": STAGES}

    def stop_in_the_first(at):
        if (at.stage, at.done) == ("training", 1):
            os.kill(os.getpid(), signal.SIGTERM)

    assert atrous.train("shapes", out=folder, set=settings, progress=stop_in_the_first, **options).interrupted
    with pytest.raises(UsageError, match="has not reached its last stage"):
        atrous.train(extend=folder, epochs=1)
    atrous.train(resume=folder)
    first = RunFolder(folder).stage(1).checkpoint.read_bytes()
    assert atrous.train(extend=folder, epochs=1).scores is not None
    assert load_checkpoint(folder / "last.ckpt").step == 6
    assert RunFolder(folder).stage(1).checkpoint.read_bytes() == first
    kept = load_config(recipe=folder / "config.yaml").config
    assert kept.training.iterations == 3
    assert kept.stages[1] == {
        **{"training.norm": "frozen", "training.epochs": 1.0, "training.extended": [[2, 2]]},
        **{key: value for key, value in kept.stages[1].items() if key in ("training.crop", "training.batch")},
    }


def test_a_training_without_a_better_score_stops_and_keeps_the_best_weights(tmp_path):
    """With a learning rate of almost nothing and frozen norms all validations have the score of the first one."""
    settings = {"data.options": {"num_train": 12, "num_val": 2, "size": 65}, "training.norm": "frozen"}
    options = {"model": "fcn-tiny", "weights": "none", "iterations": 12, "crop": 65, "batch": 2, "lr": 1e-9}
    options |= {"validations": 12, "patience": 2, "set": settings}
    whole, parts = (tmp_path / name for name in ("whole", "parts"))
    atrous.train("shapes", out=whole, **options)
    assert [row["step"] for row in read_rows(whole)] == ["1", "2", "3"]
    assert load_checkpoint(whole / "last.ckpt").step == 3
    metrics = json.loads((whole / "metrics.json").read_text())
    assert metrics["training"]["interrupted"] is False
    said = "stopped early after step 3 of 12: no better mIoU in 2 validations; the weights of step 1 are kept"
    assert said in [note["message"] for note in metrics["notes"]]
    assert "levelled-off" not in [note["code"] for note in metrics["notes"]]
    assert atrous.train("shapes", out=parts, progress=interrupt_at(2), **options).interrupted
    for _ in range(2):  # the second time it has stopped already
        assert not atrous.train(resume=parts).interrupted
        assert_same_runs(whole, parts)
    atrous.train(extend=parts, iterations=24)
    assert [row["step"] for row in read_rows(parts)] == ["1", "2", "3", "4", "6"]


def test_a_patience_that_no_training_can_exhaust_is_refused():
    with pytest.raises(ConfigError, match=r"training.patience.* has no effect: 8 of 8 validations"):
        load_config(options={"data.source": "shapes", "patience": 8})
