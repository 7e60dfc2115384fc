"""How a check grows with the number of pairs: time per pair, and memory at its peak, on hard links to small pairs.

`python benchmarks/many_pairs.py --pairs 1000 10000 100000` makes each set in a temporary folder, checks it in a process
of its own, and prints one line of JSON a set. The 1,000 distinct pairs are noise of 16 x 16 pixels; other pairs are
hard links to them in folders of 1,000, so that what is measured is the cost of a pair and not that of decoding large
files. Each folder is a group of its own in one of both splits, and the images of both splits are distinct.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

DISTINCT = 1000
SIDE_PX = 16
VAL_EVERY = 5
"""Every fifth distinct pair is one to score."""


def write_pairs(root: Path, num_pairs: int) -> None:
    """Write distinct pairs, and link the others to them.

    Args:
        root: An empty folder.
        num_pairs: Pairs in both splits together.
    """
    generator = np.random.default_rng(0)
    first: dict[int, tuple[Path, Path]] = {}
    for number in range(num_pairs):
        index, copy = number % DISTINCT, number // DISTINCT
        split = "val" if index % VAL_EVERY == 0 else "train"
        paths = tuple(root / kind / split / f"{copy:05}" / f"{index:05}.png" for kind in ("images", "masks"))
        if index in first:
            for path, source in zip(paths, first[index], strict=True):
                path.parent.mkdir(parents=True, exist_ok=True)
                os.link(source, path)
            continue
        pixels = generator.integers(0, 256, (SIDE_PX, SIDE_PX, 3), np.uint8)
        labels = generator.integers(0, 3, (SIDE_PX, SIDE_PX), np.uint8)
        for path, values in zip(paths, (pixels, labels), strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(values).save(path)
        first[index] = (paths[0], paths[1])
    (root / "atrous.yaml").write_text("data: {classes: [a, b, c]}\n", encoding="utf-8")


def measure_check(root: Path) -> None:
    """Check a folder in this process, and print what it cost as JSON."""
    from atrous.config.load import load_config
    from atrous.runs.check import check_data

    config = load_config(options={"data.source": str(root)}).config.data
    started, cpu = time.perf_counter(), time.process_time()
    result = check_data(config)
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    print(
        json.dumps(
            {
                "pairs": result.num_pairs,
                "wall_s": round(wall_s, 2),
                "cpu_s": round(cpu_s, 2),
                "cpu_us_per_pair": round(1e6 * cpu_s / result.num_pairs, 1),
                "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                "findings": [finding.code for finding in result.findings],
            }
        )
    )


def main() -> None:
    """Make each set, and check it twice: with an empty cache of facts, and with a full one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        measure_check(arguments.measure)
        return
    for num_pairs in arguments.pairs:
        with tempfile.TemporaryDirectory() as folder:
            write_pairs(Path(folder) / "data", num_pairs)
            environment = {**os.environ, "XDG_CACHE_HOME": str(Path(folder) / "cache")}
            for _ in range(2):
                command = [sys.executable, __file__, "--measure", str(Path(folder) / "data")]
                subprocess.run(command, check=True, env=environment)


if __name__ == "__main__":
    main()
