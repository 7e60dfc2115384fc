"""Trainings in several processes that are started as users start them."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

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
        time.sleep(0.05)


def read_time(run: Path) -> int:
    """Return when the checkpoint of a run was written; 0 if it has none."""
    return (run / "last.ckpt").stat().st_mtime_ns if (run / "last.ckpt").is_file() else 0


def kill_one(process: subprocess.Popen[str], run: Path, rank: int, delay_s: float) -> tuple[int, str]:
    """Kill a process of a training some time after its first checkpoint of this sitting; return how the command ended.

    The first of a new run is written before its first step, that of a continued one at its first validation.
    """
    before = read_time(run)
    wait_until(lambda: read_time(run) != before)
    time.sleep(delay_s)
    assert process.poll() is None
    killed = time.monotonic()
    os.kill(list_children(process)[rank], signal.SIGKILL)
    code, _, err = finish(process, 60)
    assert time.monotonic() - killed < 30, err
    return code, err


def test_all_end_soon_where_one_is_killed_and_the_run_continues_in_one_process(tmp_path, shapes_folder):
    run = tmp_path / "run"
    words = (shapes_folder, *OPTIONS, "--iterations", 4000, "--processes", 2, "--out", run)
    code, err = kill_one(start("train", *words), run, 1, 1.0)
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
    often = (
        "--set",
        "training.validations=100000",
    )  # each writes a checkpoint: kills meet steps, validations and writes
    words = ("train", shapes_folder, *OPTIONS, *often, "--iterations", 100_000, "--processes", 2, "--out", run)
    done = []
    for number in range(20):
        rank = number % 2
        code, err = kill_one(start(*words), run, rank, draw.uniform(0.0, 3.0))
        assert code == 5, err
        assert "Traceback" not in err
        done.append(load_checkpoint(run / "last.ckpt").step)
        words = ("train", "--resume", run, "--processes", 2)
    assert sorted(set(done)) == done  # each sitting continued
    before, process = read_time(run), start(*words)
    wait_until(lambda: read_time(run) != before)
    process.send_signal(signal.SIGTERM)
    code, _, err = finish(process, 60)
    assert code == 130, err
    assert load_checkpoint(run / "last.ckpt").step > done[-1]


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


def test_two_processes_score_as_one(trained_run, shapes_folder):
    """Of three images the first process has two; every count and every interval is that of one process."""
    alone = finish(start("eval", trained_run, "--json", module=(str(TINY),)))
    both = [finish(process) for process in launch(("eval", trained_run, "--json"), slurm=False)]
    assert [code for code, _, _ in (alone, *both)] == [0, 0, 0], both
    assert json.loads(both[0][1]) == json.loads(alone[1])
    assert both[1][1:] == ("", "")


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
