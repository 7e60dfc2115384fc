"""How a check grows with the number of pairs: time per pair, and memory at its peak, on hard links to small pairs.

`python benchmarks/many_pairs.py --pairs 1000 10000 100000` makes each set in a temporary folder, checks it in a process
of its own, with an empty cache of facts and with a full one, and prints one line of JSON a check. The 1,000 distinct
pairs are noise of 16 x 16 pixels; other pairs are hard links to them in folders of 1,000, or with `--flat` in one
folder, so that what is measured is the cost of a pair and not that of decoding large files. The images of both splits
are distinct. A check has no other processes, so the peak is that of the whole command.
"""

from __future__ import annotations

import argparse
import contextlib
import io
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


def write_pairs(root: Path, num_pairs: int, *, is_flat: bool = False) -> None:
    """Write distinct pairs, and link the others to them.

    Args:
        root: An empty folder.
        num_pairs: Pairs in both splits together.
        is_flat: Whether all pairs of a split are in one folder.
    """
    generator = np.random.default_rng(0)
    first: dict[int, tuple[Path, Path]] = {}
    for number in range(num_pairs):
        index, copy = number % DISTINCT, number // DISTINCT
        split = "val" if index % VAL_EVERY == 0 else "train"
        name = f"{copy:05}{'_' if is_flat else '/'}{index:05}.png"
        paths = tuple(root / kind / split / name for kind in ("images", "masks"))
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


def measure(root: Path, *, is_training: bool) -> None:
    """Check a folder in this process, or list what a training on it would do, and print what it cost as JSON."""
    from atrous.cli.main import main as run_command
    from atrous.config.load import load_config
    from atrous.runs.check import check_data

    config = load_config(options={"data.source": str(root)}).config.data
    started, cpu = time.perf_counter(), time.process_time()
    if is_training:
        with contextlib.redirect_stdout(io.StringIO()):
            run_command(["train", str(root), "--dry-run", "--out", str(root.parent / "run")])
        num_pairs = sum(1 for _ in (root / "images").rglob("*.png"))
    else:
        num_pairs = check_data(config).num_pairs
    wall_s, cpu_s = time.perf_counter() - started, time.process_time() - cpu
    result = {
        "pairs": num_pairs,
        "wall_s": round(wall_s, 2),
        "cpu_s": round(cpu_s, 2),
        "cpu_us_per_pair": round(1e6 * cpu_s / num_pairs, 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(result), flush=True)


def main() -> None:
    """Make each set, and measure it: first with an empty cache of facts, then with a full one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--flat", action="store_true", help="all pairs of a split in one folder")
    parser.add_argument("--train", action="store_true", help="measure `atrous train --dry-run` instead of a check")
    parser.add_argument("--times", type=int, default=2, help="how often each set is measured")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        measure(arguments.measure, is_training=arguments.train)
        return
    for num_pairs in arguments.pairs:
        with tempfile.TemporaryDirectory() as folder:
            write_pairs(Path(folder) / "data", num_pairs, is_flat=arguments.flat)
            environment = {**os.environ, "XDG_CACHE_HOME": str(Path(folder) / "cache")}
            for _ in range(arguments.times):
                command = [sys.executable, __file__, "--measure", str(Path(folder) / "data")]
                command += ["--train"] if arguments.train else []
                subprocess.run(command, check=True, env=environment)


if __name__ == "__main__":
    main()
