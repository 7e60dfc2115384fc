"""Trainings in several processes that are started as users start them."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from atrous.networks.model_file import load_model, save_model
from atrous.training.checkpoint import load_checkpoint
from tiny import RUN_OPTIONS

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two processes need two cores")

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "tiny.py"
OPTIONS = (
    *("--model", "fcn-lite0", "--weights", "none", "--crop", "65", "--batch", "4", "--device", "cpu"),
    *("--set", "training.precision=fp32", "--set", "training.validations=2"),
)


def start(*words: object, module: tuple[str, ...] = ("-m", "atrous"), **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *module, *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 300) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, out, err


def test_two_processes_train_validate_and_write_once(tmp_path, shapes_folder):
    run = tmp_path / "run"
    words = (shapes_folder, *OPTIONS, "--iterations", 4, "--processes", 2, "--out", run, "--json")
    code, out, err = finish(start("train", *words))
    assert code == 0, err
    printed = json.loads(out)  # one object: only the first process prints
    assert printed["folder"] == str(run)
    assert sum(row["pixels"] for row in printed["classes"]) > 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["training"]["steps"] == 4
    assert [row["key"] for row in metrics["images"]] == [row["key"] for row in printed["images"]]
    assert len(metrics["images"]) == 3  # two in one process, one in the other
    assert (run / "log.txt").read_text().count("plan: 4 steps of 4 images") == 1
    assert err.count("plan: 4 steps") == 1
    assert not (run / ".lock").exists()


def test_an_error_is_printed_once_by_the_process_that_met_it(tmp_path, shapes_folder):
    words = (shapes_folder, *OPTIONS, "--batch", 3, "--iterations", 4, "--processes", 2, "--out", tmp_path / "run")
    code, _, err = finish(start("train", *words))
    assert code == 2, err
    assert err.count("training.batch: 3 cannot be shared by 2 processes") == 1
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def list_children(process: subprocess.Popen[str]) -> list[int]:
    """Return the processes that a command has started, by rank."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return sorted(map(int, listed))


def wait_until(condition, seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def read_step(run: Path) -> int:
    return load_checkpoint(run / "last.ckpt").step if (run / "last.ckpt").is_file() else -1


def kill_one(process: subprocess.Popen[str], rank: int) -> tuple[int, str]:
    """Kill a process of a training; return how the command ended."""
    assert process.poll() is None
    killed = time.monotonic()
    os.kill(list_children(process)[rank], signal.SIGKILL)
    code, _, err = finish(process, 60)
    assert time.monotonic() - killed < 30, err
    return code, err


def test_all_end_soon_where_one_is_killed_and_the_run_continues_in_one_process(tmp_path, shapes_folder):
    run = tmp_path / "run"
    words = (shapes_folder, *OPTIONS, "--iterations", 4000, "--processes", 2, "--out", run)
    process = start("train", *words)
    wait_until(lambda: read_step(run) == 0)
    time.sleep(1.0)
    code, err = kill_one(process, 1)
    assert code == 5, err
    assert err.count("has lost the others: one of them has died") == 1
    assert f"Continue with: atrous train --resume {run}" in err
    assert "Traceback" not in err
    assert not (run / ".lock").exists()
    assert load_checkpoint(run / "last.ckpt").step >= 0
    code, _, err = finish(start("train", "--extend", run, "--iterations", 4001, "--patience", 1))
    assert code == 2, err  # the settings of the run hold, whatever the number of processes


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_kills_of_one_process_each_leave_a_checkpoint_that_resumes(tmp_path, shapes_folder):
    run, draw = tmp_path / "run", random.Random(0)
    often = ("--set", "training.validations=100000")  # each writes a checkpoint: kills meet steps, scores and writes
    words = ("train", shapes_folder, *OPTIONS, *often, "--iterations", 100_000, "--processes", 2, "--out", run)
    done = [0]
    for number in range(20):
        process = start(*words)
        wait_until(lambda: read_step(run) > done[-1])
        time.sleep(draw.uniform(0.0, 2.0))
        code, err = kill_one(process, number % 2)
        assert code == 5, err
        assert "Traceback" not in err
        done.append(read_step(run))
        words = ("train", "--resume", run, "--processes", 2)
    process = start(*words)
    wait_until(lambda: read_step(run) > done[-1])  # the last one resumes as well
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process, 60)
    assert code == 130, err


def launch(words, *, slurm: bool) -> list[subprocess.Popen[str]]:
    """Start two processes with the variables of srun or of torchrun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    every = (
        [{"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in (0, 1)]
        if slurm
        else [{"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in (0, 1)]
    )
    return [start(*words, module=(str(TINY),), **where, **own) for own in every]


def test_processes_of_srun_stop_together_and_those_of_torchrun_continue(tmp_path, shapes_folder):
    """The signal reaches one process alone, and not the one that prints and writes."""
    run = tmp_path / "run"
    words = (*RUN_OPTIONS, "--iterations", 100_000, "--out", run, "--set", "training.validations=1")
    first, second = launch(("train", shapes_folder, *words), slurm=True)
    wait_until(lambda: (run / "last.ckpt").is_file())
    time.sleep(0.5)
    second.send_signal(signal.SIGTERM)
    ends = [finish(process, 60) for process in (first, second)]
    assert [code for code, _, _ in ends] == [130, 130], ends
    assert "interrupted; continue with: atrous train --resume" in ends[0][2]
    assert ends[1][1:] == ("", "")
    stopped = load_checkpoint(run / "last.ckpt").step
    assert 0 < stopped < 100_000
    continued = launch(("train", "--extend", run, "--iterations", 100_001, "--quiet"), slurm=False)
    wait_until(lambda: load_checkpoint(run / "last.ckpt").record["plan"]["total_steps"] == 100_001)
    continued[0].send_signal(signal.SIGTERM)
    ends = [finish(process, 60) for process in continued]
    assert [code for code, _, _ in ends] == [130, 130], ends
    assert load_checkpoint(run / "last.ckpt").step >= stopped


def test_two_processes_score_and_compare_as_one(tmp_path, trained_run, shapes_folder):
    """Of three images the first process has two; every count, interval and file is that of one process."""
    other = shutil.copytree(trained_run, tmp_path / "other")
    network, card = load_model(other / "model.safetensors")
    with torch.no_grad():
        network.head.classifier.bias.add_(torch.linspace(-1.0, 1.0, card.label_space.num_classes))
    save_model(other / "model.safetensors", network, card)
    for words in ((trained_run,), (trained_run, other, shapes_folder)):
        outs = [tmp_path / f"{name} {len(words)}" for name in ("alone", "both")]
        code, alone, err = finish(start("eval", *words, "--json", "--out", outs[0], module=(str(TINY),)))
        assert code == 0, err
        both = [finish(process) for process in launch(("eval", *words, "--json", "--out", outs[1]), slurm=False)]
        assert [code for code, _, _ in both] == [0, 0], both
        assert json.loads(both[0][1]) == json.loads(alone)
        assert both[1][1:] == ("", "")
        files = [{path.relative_to(out): path for path in out.rglob("*") if path.is_file()} for out in outs]
        assert files[0].keys() == files[1].keys()
        assert len(files[0]) > 1
        for name, path in files[0].items():
            if path.suffix != ".json":
                assert files[1][name].read_bytes() == path.read_bytes(), name
                continue
            contents = [json.loads(each[name].read_text()) for each in files]
            assert contents[0].keys() == contents[1].keys()
            different = {key for key, value in contents[0].items() if contents[1][key] != value}
            assert different <= {"command", "machine"}, different


def test_two_processes_label_a_folder_with_one_record_and_one_summary(tmp_path, trained_run, shapes_folder):
    (tmp_path / "in").mkdir()
    for number, path in enumerate(sorted((shapes_folder / "images").rglob("*.png"))[:5]):
        (tmp_path / "in" / f"{number}.png").write_bytes(path.read_bytes())
    (tmp_path / "in" / "5.png").write_bytes(b"no image")
    words = (
        "predict",
        tmp_path / "in",
        "--model",
        trained_run,
        "--format",
        "ids,areas",
        "--json",
        "--backend",
        "torch",
    )
    words = (*words, "--backend", "torch", "--json")
    alone = finish(start(*words, "--out", tmp_path / "alone", module=(str(TINY),)))
    both = [finish(process) for process in launch((*words, "--out", tmp_path / "both"), slurm=False)]
    assert (alone[0], both[0][0], both[1][0]) == (1, 1, 0), (alone, both)  # something was skipped, and is reported once
    assert both[1][1:] == ("", "")
    first, second = json.loads(alone[1]), json.loads(both[0][1])
    assert {row["input"] for row in second["done"]} == {row["input"] for row in first["done"]}
    assert second["skipped"] == first["skipped"]
    assert len(second["skipped"]) == 1
    names = sorted(path.name for path in (tmp_path / "alone").iterdir())
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == names
    for name in names:
        if name != "predictions.json":
            assert (tmp_path / "both" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name
    record = json.loads((tmp_path / "both" / "predictions.json").read_text())
    assert len(record["done"]) == 5
    again = [finish(process) for process in launch((*words, "--out", tmp_path / "both"), slurm=False)]
    assert len(json.loads(again[0][1])["kept"]) == 5
    assert json.loads(again[0][1])["done"] == []
