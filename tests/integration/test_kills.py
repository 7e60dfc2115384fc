"""A run that is killed at any moment and continued ends as the run that was never killed, to the bit."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import traceback
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import atrous
from compared import assert_same_runs

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="sittings are forks of this process")

FIRST, SECOND = 14, 10
"""Steps of the two stages."""
OPTIONS = {
    **{"model": "deeplabv3-tiny", "weights": "none", "iterations": FIRST, "crop": 65, "batch": 2, "validations": 4},
    **{"accumulate": 2, "ema_decay": 0.5, "jitter": 0.2, "precision": "fp32"},
}
SETTINGS = {
    "model.head": {"rates": [1, 2], "channels": 8},
    "stages": [
        {"training.norm_momentum": 0.05},
        {"training.iterations": SECOND, "training.norm": "frozen", "model.output_stride": 8},
    ],
}


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def sit(work):
    """Do something in a process of its own and return its exit status; processes that it leaves behind are ended."""
    child = os.fork()
    if child == 0:
        os.setsid()
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(status)


def train(folder, data, workers, progress=False):
    """Begin a run, or continue it."""
    if (folder / "config.yaml").is_file():
        return atrous.train(resume=folder, workers=workers, progress=progress)
    return atrous.train(str(data), out=folder, set=SETTINGS, workers=workers, progress=progress, **OPTIONS)


def train_until_step(folder, data, workers, number):
    """Kill the training after the step of this number, counted over the stages of this sitting."""
    seen = []

    def watch(at):
        if at.stage == "training":
            seen.append(at)
            if len(seen) == number:
                kill()

    train(folder, data, workers, watch)


def train_until_write(folder, data, workers, number):
    """Kill the training when half of its checkpoint of this number is written."""
    save, count = torch.save, iter(range(1, 1000))

    def save_half(content, file):
        if next(count) == number:
            whole = io.BytesIO()
            save(content, whole)
            file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
            file.flush()
            kill()
        save(content, file)

    torch.save = save_half
    train(folder, data, workers)


def train_until_replacement(folder, data, workers, number):
    """Kill the training when a file is complete, but does not have its name yet."""
    replace, count = Path.replace, iter(range(1, 1000))

    def replace_or_kill(path, target):
        if next(count) == number:
            kill()
        return replace(path, target)

    Path.replace = replace_or_kill
    train(folder, data, workers)


@pytest.fixture(scope="module")
def whole(shapes_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(folder, shapes_folder, 0)
    return folder


def finish(folder, data, workers, whole):
    assert sit(lambda: train(folder, data, workers)) == 0
    assert_same_runs(whole, folder)
    scores = [json.loads((run / "metrics.json").read_text())["miou"] for run in (whole, folder)]
    assert scores[0] == scores[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_is_killed_again_and_again_ends_as_the_one_that_was_not(whole, shapes_folder, tmp_path, workers):
    folder = tmp_path / "killed"
    for until, number in (
        (train_until_replacement, 1),  # the settings: the run begins anew
        (train_until_step, 9),
        (train_until_write, 2),
        (train_until_step, FIRST),
        (train_until_replacement, 3),
    ):
        assert sit(lambda until=until, number=number: until(folder, shapes_folder, workers, number)) == -signal.SIGKILL
    finish(folder, shapes_folder, workers, whole)


KILLS = [
    *((train_until_step, number) for number in sorted(random.Random(0).sample(range(1, FIRST + SECOND + 1), 19))),
    (train_until_write, random.Random(1).randint(2, 10)),
]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("until", "number"), KILLS)
def test_a_run_killed_at_a_random_step_ends_as_the_one_that_was_not(
    whole, shapes_folder, tmp_path, until, number, workers
):
    folder = tmp_path / "killed"
    assert sit(lambda: until(folder, shapes_folder, workers, number)) == -signal.SIGKILL
    finish(folder, shapes_folder, workers, whole)


@pytest.mark.slow
def test_a_run_killed_before_any_of_its_files_gets_its_name_ends_as_the_one_that_was_not(
    whole, shapes_folder, tmp_path
):
    for number in range(1, 1000):
        folder = tmp_path / f"{number}"
        code = sit(lambda: train_until_replacement(folder, shapes_folder, 0, number))  # noqa: B023  called at once
        if code == 0:
            break
        assert code == -signal.SIGKILL
        finish(folder, shapes_folder, 0, whole)
    assert number > 30
