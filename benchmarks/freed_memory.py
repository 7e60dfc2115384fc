"""What keeping freed memory gives a training and costs it: steps of whole trainings with it and without it, in turns.

    python benchmarks/freed_memory.py                       # ten minutes
    python benchmarks/freed_memory.py --rounds 1 --steps 4  # checks that the script runs

Each training is a process of its own on the built-in images of shapes, with the default network and recipe, batch 8,
crop 353, without validations but the last one. Without it means that the environment says how glibc keeps memory: as
it does by default. Figures of a step are those of a training with the steps asked for and 8 more, less those of one
with 8, so that what happens once does not count: wall time, processor time spent in the system, and page faults. Peak
memory is that of the longer process.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness import parse_options, report

from atrous.core.provenance import describe_machine

FIRST_STEPS = 8
DEFAULT = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=7"}
"""glibc's own default, which counts as a choice of the environment. Thresholds would not be: set, they grow no more."""


def run_training(steps: int, variables: dict[str, str]) -> tuple[float, float, float, float]:
    """Train for some steps and return wall seconds, system seconds, page faults and peak memory in MiB."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "atrous", "train", "shapes", "--quiet", "--workers", "0", "--crop", "353"]
        words += ["--iterations", str(steps), "--set", "training.validations=1", "--out", str(Path(folder) / "run")]
        begun = time.perf_counter()
        process = subprocess.Popen(words, env={**os.environ, **variables}, stdout=subprocess.DEVNULL)
        _, status, own = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the training ended with {process.returncode}")
    return seconds, own.ru_stime, own.ru_minflt, own.ru_maxrss / 1024


def measure_step(steps: int, variables: dict[str, str]) -> tuple[float, float, float, float]:
    """Return wall seconds, system seconds and page faults of a step, and the peak memory of a training in MiB."""
    few, many = (run_training(number, variables) for number in (FIRST_STEPS, FIRST_STEPS + steps))
    seconds, system, faults = ((b - a) / steps for a, b in zip(few[:3], many[:3], strict=True))
    return seconds, system, faults, many[3]


def main() -> None:
    """Measure both sides in turns and write the table."""

    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--steps", type=int, default=20, help="steps that are timed in each training")

    options = parse_options(__doc__ or "", add)
    sides: dict[str, dict[str, str]] = {"returned": DEFAULT, "kept": {}}
    found: dict[str, list[tuple[float, float, float, float]]] = {name: [] for name in sides}
    for _ in range(options.rounds):
        for name, variables in sides.items():
            found[name].append(measure_step(options.steps, variables))
    medians = {name: [statistics.median(each) for each in zip(*rows, strict=True)] for name, rows in found.items()}
    report(
        "freed_memory",
        {"cpu": describe_machine()["processor"]},
        {name: [row[0] for row in rows] for name, rows in found.items()},
        reference="returned",
        options=options,
        more={
            name: {"system_ms": f"{1e3 * system:.0f}", "page_faults": f"{faults:.0f}", "peak_mib": f"{peak:.0f}"}
            for name, (_, system, faults, peak) in medians.items()
        },
    )


if __name__ == "__main__":
    main()
