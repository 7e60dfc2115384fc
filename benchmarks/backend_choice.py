"""Folders of several sizes labelled by `atrous predict --backend auto` and by each backend by name, starts included.

    python benchmarks/backend_choice.py --images photos/ --model lite0
    python benchmarks/backend_choice.py --images photos/ --model resnet50 --counts 1 10 100 --rounds 2

Every candidate is a process of its own, as a user starts it, and all take turns. Figures of backends are measured once
before, by `atrous bench`, into a cache folder of the benchmark's own. `of_best` is the median, over the turns, of the
time of the fastest backend by name as a share of this one's.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import torch
from harness import parse_options, report
from inference import draw_norms

import atrous
from atrous.core.provenance import describe_machine

COUNTS = (1, 10, 100, 1000)
BACKENDS = ("torch", "onnxruntime", "openvino")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this script."""
    parser.add_argument("--images", type=Path, required=True, help="folder of JPEGs or PNGs")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="images in each folder")
    parser.add_argument("--width", type=int, default=480, help="images are resized to this width")
    parser.add_argument("--height", type=int, default=360, help="images are resized to this height")
    parser.add_argument("--model", choices=["resnet50", "lite0"], default="lite0")
    parser.add_argument("--beside", default="", help="what else the machine does, for the table")


def save_model(name: str, path: Path) -> None:
    """Write the model that is measured; its weights are drawn, with the spread of trained ones."""
    torch.manual_seed(0)
    stride = 8 if name == "resnet50" else 16
    classes = [f"class {number}" for number in range(21)]
    network = atrous.build(f"deeplabv3-{name}", classes=classes, output_stride=stride)
    draw_norms(network)
    torch.nn.init.kaiming_normal_(network.head.classifier.weight)
    atrous.save(network, path)


def write_images(options: argparse.Namespace, folder: Path, count: int) -> None:
    """Write a folder of images of one size; they are repeated if there are fewer."""
    suffixes = (".jpg", ".jpeg", ".png")
    found = sorted(path for path in options.images.rglob("*") if path.suffix.lower() in suffixes)[:count]
    images = [cv2.resize(cv2.imread(str(path)), (options.width, options.height)) for path in found]
    folder.mkdir()
    for number, image in zip(range(count), itertools.cycle(images), strict=False):
        cv2.imwrite(str(folder / f"{number:05}.jpg"), image)


def run_command(words: list[str], folder: Path) -> float:
    """Run a command of atrous in a process of its own; return its seconds."""
    begun = time.perf_counter()
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    subprocess.run(
        [sys.executable, "-m", "atrous", *words, "--quiet"],
        check=True,
        env=environment,
        cwd=folder,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - begun


def main() -> None:
    """Run the comparison."""
    options = parse_options(__doc__, add_options)
    backends = [name for name in BACKENDS if name == "torch" or importlib.util.find_spec(name)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(options.model, folder / "model.safetensors")
        size = f"{options.width}x{options.height}"
        bench = ["bench", "model.safetensors", "--sizes", size, "--precisions", "fp32", "--rounds", "1"]
        run_command([*bench, "--backends", ",".join(backends), "--out", "bench"], folder)
        for count in options.counts:
            compare(options, folder, count, backends)


def compare(options: argparse.Namespace, folder: Path, count: int, backends: list[str]) -> None:
    """Let all candidates label one folder in turns."""
    source = folder / f"in{count}"
    write_images(options, source, count)
    sides = {name: f"atrous --backend {name}" for name in ("auto", *backends)}
    times: dict[str, list[float]] = {side: [] for side in sides.values()}
    chosen = []
    for _ in range(options.rounds):
        for name, side in sides.items():
            out = folder / "out"
            shutil.rmtree(out, ignore_errors=True)
            words = ["predict", str(source), "--model", "model.safetensors", "--out", str(out), "--format", "ids"]
            times[side].append(run_command([*words, "--precision", "fp32", "--backend", name], folder))
            if name == "auto":
                record = json.loads((out / "predictions.json").read_text(encoding="utf-8"))
                chosen.append(record["backend"]["chosen"])
    best = [min(seconds) for seconds in zip(*(times[sides[name]] for name in backends), strict=True)]
    more: dict[str, dict[str, object]] = {
        side: {"of_best": f"{statistics.median(b / s for b, s in zip(best, seconds, strict=True)):.3g}"}
        for side, seconds in times.items()
    }
    more[sides["auto"]]["chosen"] = " ".join(dict.fromkeys(chosen))
    context = {
        "processor": describe_machine()["processor"],
        "beside": options.beside,
        "model": options.model,
        "width": options.width,
        "height": options.height,
        "images": count,
    }
    report("backend_choice", context, times, reference=sides["torch"], options=options, more=more)


if __name__ == "__main__":
    main()
