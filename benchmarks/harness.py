"""Shared by the benchmarks: candidates that take turns, tables with ratios, and the choice of an allocator.

All candidates of a table run in one process and take turns, so that other load on the machine affects all of them.
The compared figure is the median of the ratios within each turn, not the ratio of the medians.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from atrous.core.machine import find_cpu_kind

RESULTS = Path(__file__).parent.parent / "results" / "performance"
TUNED = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=268435456"
"""Makes glibc keep freed memory: on virtual machines the first access to a page is expensive."""
Side = Callable[[], object]


def parse_options(description: str, add: Callable[[argparse.ArgumentParser], None] | None = None) -> argparse.Namespace:
    """Read the command line. Restarts the process if another allocator is requested.

    Args:
        description: Description of the script.
        add: Adds further options of the script.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed turns per candidate")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the tables")
    parser.add_argument(
        "--allocator",
        choices=["default", "tuned"],
        default="default",
        help="memory allocator: glibc's default, or tuned to keep freed memory (Linux)",
    )
    if add is not None:
        add(parser)
    options = parser.parse_args()
    if options.allocator == "tuned" and os.environ.get("GLIBC_TUNABLES") != TUNED:
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "GLIBC_TUNABLES": TUNED})
    return options


def take_turns(
    sides: Mapping[str, Side], rounds: int, *, warm_up: int = 1, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Run all candidates in turns.

    Args:
        sides: Candidates by name.
        rounds: Timed turns.
        warm_up: Untimed runs of each candidate.
        clock: Returns the seconds. `time.process_time` does not count the time in which other processes run.
    Returns: The seconds of each candidate, turn by turn.
    """
    for run in sides.values():
        for _ in range(warm_up):
            run()
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, run in sides.items():
            begun = clock()
            run()
            times[name].append(clock() - begun)
    return times


def report(
    table: str,
    context: Mapping[str, object],
    times: Mapping[str, list[float]],
    *,
    reference: str,
    options: argparse.Namespace,
    more: Mapping[str, Mapping[str, object]] | None = None,
) -> None:
    """Print a table and write its rows to `<out>/<table>.csv`, replacing those of the same conditions and candidate.

    The number of threads and the allocator are conditions too.

    Args:
        table: Name of the table.
        context: Conditions shared by all candidates, such as the size of the image; with the kind of the CPU, they
            become the first columns.
        times: Seconds by candidate and turn.
        reference: The candidate that the others are compared with.
        options: Result of `parse_options`.
        more: Further columns by candidate.
    """
    context = {"kind": find_cpu_kind(), **context}
    rows = []
    for side, seconds in times.items():
        ratio = statistics.median(a / b for a, b in zip(times[reference], seconds, strict=True))
        rows.append(
            {
                **context,
                "threads": torch.get_num_threads(),
                "allocator": options.allocator,
                "side": side,
                "median_ms": f"{1e3 * statistics.median(seconds):.4g}",
                "least_ms": f"{1e3 * min(seconds):.4g}",
                "most_ms": f"{1e3 * max(seconds):.4g}",
                "times_as_fast": f"{ratio:.3g}",
                **(more or {}).get(side, {}),
            }
        )
    for row in rows:
        print(f"{table}: " + ", ".join(f"{key} {value}" for key, value in row.items() if value != ""), flush=True)
    path = options.out / f"{table}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = {_identify(row, context): {key: str(value) for key, value in row.items()} for row in rows}
    older = read_table(path)
    kept = [row for row in older if _identify(row, context) not in fresh]
    columns = list(dict.fromkeys(key for row in [*kept, *fresh.values()] for key in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows([*kept, *fresh.values()])


def _identify(row: Mapping[str, object], context: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(str(row.get(key, "")) for key in (*context, "threads", "allocator", "side"))


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table; none if the file does not exist."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
