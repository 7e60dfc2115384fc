"""`atrous predict` on a TIFF larger than memory: time per window and peak memory, by the side of the image.

    python benchmarks/huge_image.py                       # 1000, 5000 and 20000 pixels; the last takes many minutes
    python benchmarks/huge_image.py --sides 2000

The image is written one row of tiles at a time: smooth blocks with noise, which compress like photographs. The network
is the default one, `deeplabv3-lite0`, with 21 classes. Even small images are read piece by piece here. Each side is
labelled in a process of its own; its peak of resident memory (VmHWM) is the kernel's figure. Times are per window.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from harness import parse_options, report

NUM_CLASSES = 21
TILE_SIDE = 256


def iter_tiles(side: int) -> Iterator[np.ndarray]:
    """Yield tiles (256, 256, 3) uint8 from left to right and top to bottom."""
    random = np.random.default_rng(0)
    ramp = np.linspace(0, 1, TILE_SIDE, dtype=np.float32)[:, None]
    noise = random.integers(0, 16, (TILE_SIDE, TILE_SIDE, 3), dtype=np.uint8)
    for _ in range((-(-side // TILE_SIDE)) ** 2):
        corners = random.uniform(0, 239, (2, 2, 3)).astype(np.float32)
        left = corners[0, 0] * (1 - ramp) + corners[1, 0] * ramp  # (256, 3)
        right = corners[0, 1] * (1 - ramp) + corners[1, 1] * ramp
        yield (left[:, None] * (1 - ramp) + right[:, None] * ramp).astype(np.uint8) + noise


def write_image(path: Path, side: int) -> None:
    """Write a square image with the given side."""
    import tifffile

    with tifffile.TiffWriter(path) as writer:
        writer.write(
            iter_tiles(side),
            shape=(side, side, 3),
            dtype=np.uint8,
            tile=(TILE_SIDE, TILE_SIDE),
            photometric="rgb",
            compression="zlib",
            maxworkers=1,
        )


def label_image(path: Path, window: int) -> None:
    """Label an image in this process, and print duration and memory as JSON."""
    import torch

    import atrous
    import atrous.images.decode
    from atrous import api
    from atrous.core.inference_options import Opening
    from atrous.core.labels import LabelSpace
    from atrous.inference.labelling.tiles import compute_starts
    from atrous.model import Model
    from atrous.networks.model_card import ModelCard

    atrous.images.decode.HUGE_PX = 0
    torch.manual_seed(0)
    network = atrous.build("deeplabv3-lite0", classes=NUM_CLASSES, weights="imagenet").eval()
    space = LabelSpace(tuple(f"class {number}" for number in range(NUM_CLASSES)))
    model = Model(network, ModelCard(model={}, label_space=space), Opening(device="cpu"))
    begun = time.perf_counter()
    record = api.predict(path, model, path.parent / "labels", window=window, formats=("labels",))
    seconds = time.perf_counter() - begun
    [row] = record.done
    num_windows = len(compute_starts(row["height"], window)) * len(compute_starts(row["width"], window))
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak_kib = int(status.partition("VmHWM:")[2].split()[0])
    found = {"megapixels": row["height"] * row["width"] / 1e6, "windows": num_windows, "seconds": round(seconds, 2)}
    print(json.dumps(found | {"peak_mib": round(peak_kib / 1024)}))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this script."""
    parser.add_argument("--sides", type=int, nargs="+", default=[1000, 5000, 20000], metavar="PIXELS")
    parser.add_argument("--window", type=int, default=1025, metavar="PIXELS")
    parser.add_argument("--label", type=Path, help=argparse.SUPPRESS)


def main() -> None:
    """Measure every side given on the command line."""
    options = parse_options(__doc__ or "", add_options)
    if options.label is not None:
        label_image(options.label, options.window)
        return
    times: dict[str, list[float]] = {}
    more: dict[str, dict[str, object]] = {}
    for side in options.sides:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "huge.tif"
            write_image(path, side)
            words = [sys.executable, __file__, "--label", str(path), "--window", str(options.window)]
            done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print(f"{side}: {found}", flush=True)  # the last side takes many minutes
        name = f"atrous, {side} x {side}"
        times[name] = [found["seconds"] / found["windows"]]
        more[name] = {key: found[key] for key in ("megapixels", "windows", "seconds", "peak_mib")}
    context = {"model": "lite0", "window": options.window}
    report("huge_image", context, times, reference=next(iter(times)), options=options, more=more)


if __name__ == "__main__":
    main()
