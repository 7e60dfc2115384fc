"""A folder of JPEGs labelled into a folder of label maps: `atrous` and other runtimes with the usual code around them.

    python benchmarks/folder.py --images photos/ --model lite0
    python benchmarks/folder.py --images photos/ --model resnet50 --backend openvino --precision bf16
    python benchmarks/folder.py --images photos/ --flat

Every candidate labels the whole folder once, one chunk of images per turn, so that other load affects all of them.
--flat runs `atrous` with 20, 200 and 2000 images, in one process each.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from harness import parse_options, report, take_turns
from inference import Plain, build_lite0, build_resnet50, normalise
from PIL import Image

import atrous
from atrous import api
from atrous.images.decode import load_header
from atrous.model import Model
from atrous.scoring.bench import measure_peak_mib

Run = Callable[[np.ndarray], np.ndarray]
"""Maps the input of a runtime, (1, 3, H, W), to logits (1, K, H, W)."""
FLAT_COUNTS = (20, 200, 2000)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this script."""
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        help="folder of JPEGs; images whose size differs from the first are ignored",
    )
    parser.add_argument("--count", type=int, default=200, help="number of images; repeated if the folder has fewer")
    parser.add_argument("--chunk", type=int, default=20, help="images per turn")
    parser.add_argument("--model", choices=["resnet50", "lite0"], default="lite0")
    parser.add_argument("--run", help="a trained run, instead of lite0 with ImageNet weights")
    parser.add_argument("--backend", default="auto", help="backend of atrous")
    parser.add_argument("--precision", default="fp32", help="precision of atrous")
    parser.add_argument(
        "--flat", type=int, nargs="*", metavar="N", help="atrous only, with N images each; default: 20 200 2000"
    )
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)


def gather_images(source: Path, count: int, folder: Path) -> list[Path]:
    """Copy `count` JPEGs of equal size under new names."""
    found = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    size = load_header(found[0])
    found = [path for path in found if load_header(path) == size]
    folder.mkdir()
    paths = [folder / f"{number:05}.jpg" for number in range(count)]
    for path, original in zip(paths, itertools.cycle(found), strict=False):
        path.write_bytes(original.read_bytes())
    return paths


def open_models(options: argparse.Namespace) -> tuple[torch.nn.Module, Model]:
    """Return a plain network and an `atrous` model with the same weights."""
    if options.run is None:
        return build_resnet50() if options.model == "resnet50" else build_lite0(16)
    model = atrous.load(options.run)
    return model.network, model


def build_runs(plain: torch.nn.Module, model: Model, example: np.ndarray, folder: Path) -> dict[str, Run]:
    """Return the installed runtimes; the networks of `atrous` run from files written by `atrous export`."""
    is_ours = example.dtype == np.uint8
    wrapped = Plain(plain).eval()

    def run_torch(given: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return wrapped(torch.from_numpy(given)).numpy()

    runs: dict[str, Run] = {"PyTorch": run_torch}
    if importlib.util.find_spec("onnxruntime"):
        import onnxruntime

        path = folder / "model.onnx"
        if is_ours:
            atrous.export(model, path, format="onnx")
        else:
            torch.onnx.export(wrapped, (torch.from_numpy(example),), str(path), dynamo=True, verbose=False)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        runs["ONNX Runtime"] = lambda given: session.run(None, {name: given})[0]
    if importlib.util.find_spec("openvino"):
        import openvino

        if is_ours:
            path = folder / "model.xml"
            atrous.export(model, path, format="openvino")
            graph = openvino.Core().read_model(path)
            graph.reshape(list(example.shape))
        else:
            graph = openvino.convert_model(wrapped, example_input=torch.from_numpy(example), input=list(example.shape))
        for precision, hint in (("fp32", "f32"), ("bf16", "bf16")):
            settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
            compiled = openvino.compile_model(graph, "CPU", settings)
            runs[f"OpenVINO {precision}"] = lambda given, compiled=compiled: compiled(given)[0]
    return runs


def prepare(path: Path, *, own_normalisation: bool) -> np.ndarray:
    """Read an image with the usual code around a network, (1, 3, H, W)."""
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    if own_normalisation:
        return np.ascontiguousarray(image.transpose(2, 0, 1)[None])
    return normalise(image)


def label_usual(run: Run, paths: list[Path], out: Path, *, own_normalisation: bool) -> None:
    """Label images one by one."""
    out.mkdir(exist_ok=True)
    for path in paths:
        logits = run(prepare(path, own_normalisation=own_normalisation))
        labels = logits[0].argmax(axis=0).astype(np.uint8)
        cv2.imwrite(str(out / f"{path.stem}.png"), labels)


def label_ours(model: Model, paths: list[Path], out: Path, options: argparse.Namespace) -> None:
    """Label images with `atrous.predict`."""
    how = {"backend": options.backend, "precision": options.precision}
    api.predict([str(path) for path in paths], model, out, formats=("labels",), **how)


def compare(options: argparse.Namespace, folder: Path) -> None:
    """Let all candidates label the folder in turns."""
    paths = gather_images(options.images, options.count, folder / "in")
    chunks = [paths[start : start + options.chunk] for start in range(0, len(paths), options.chunk)]
    plain, model = open_models(options)
    own = options.model == "lite0" or options.run is not None
    runs = build_runs(plain, model, prepare(paths[0], own_normalisation=own), folder)

    def label(name: str, paths: list[Path]) -> None:
        if name in runs:
            label_usual(runs[name], paths, folder / name, own_normalisation=own)
        else:
            label_ours(model, paths, folder / name, options)

    def take_chunk(name: str, waiting: Iterator[list[Path]]) -> Callable[[], None]:
        return lambda: label(name, next(waiting))

    ours = f"atrous {options.precision}" + ("" if options.backend == "auto" else f" {options.backend}")
    sides = {name: take_chunk(name, itertools.cycle(chunks)) for name in (*runs, ours)}
    options.rounds = len(chunks)
    times = take_turns(sides, options.rounds)
    more: dict[str, dict[str, object]] = {}
    for name, seconds in times.items():
        peak = measure_peak_mib(lambda name=name: label(name, chunks[0]), torch.device("cpu"))
        first, found = (
            np.asarray(Image.open(folder / side / f"{paths[0].stem}.png")) for side in (next(iter(runs)), name)
        )
        more[name] = {
            "images_per_s": round(options.chunk / statistics.median(seconds), 2),
            "peak_mib": None if peak is None else round(peak, 1),
            "equal_labels": round(float((first == found).mean()), 6),
        }
    report("folder", describe(options, paths), times, reference=next(iter(runs)), options=options, more=more)


def describe(options: argparse.Namespace, paths: list[Path]) -> dict[str, object]:
    """Return the columns shared by all rows."""
    header = load_header(paths[0])
    height, width = header.height, header.width
    return {"model": options.run or options.model, "width": width, "height": height, "chunk": options.chunk}


def label_alone(options: argparse.Namespace, folder: Path) -> None:
    """Label all images in one call, and print the duration and the peak memory of the process."""
    paths = gather_images(options.images, options.count, folder / "in")
    _, model = open_models(options)
    label_ours(model, paths[:3], folder / "warm", options)
    begun = time.perf_counter()
    label_ours(model, paths, folder / "out", options)
    seconds = time.perf_counter() - begun
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": seconds, "peak_mib": round(peak_kib / 1024, 1), **describe(options, paths)}))


def measure_flatness(options: argparse.Namespace) -> None:
    """Label increasing numbers of images, each in a process of its own; times are per image."""
    times: dict[str, list[float]] = {}
    more: dict[str, dict[str, object]] = {}
    for count in options.flat or FLAT_COUNTS:
        words = ["--images", str(options.images), "--count", str(count), "--model", options.model, "--alone"]
        words += ["--backend", options.backend, "--precision", options.precision]
        words += [] if options.run is None else ["--run", options.run]
        done = subprocess.run([sys.executable, __file__, *words], check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        seconds = found.pop("seconds") / count
        name = f"{count} images"
        times[name] = [seconds]
        more[name] = {"images_per_s": round(1 / seconds, 2), "peak_mib": found.pop("peak_mib")}
    report("folder_flat", found, times, reference=next(iter(times)), options=options, more=more)


def main() -> None:
    """Run the comparison."""
    options = parse_options(__doc__, add_options)
    with tempfile.TemporaryDirectory() as name:
        if options.flat is not None:
            measure_flatness(options)
        elif options.alone:
            label_alone(options, Path(name))
        else:
            compare(options, Path(name))


if __name__ == "__main__":
    main()
