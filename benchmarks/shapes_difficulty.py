"""Difficulty of the built-in data set `shapes`: what single pixels reveal, and what context adds.

    python benchmarks/shapes_difficulty.py classifier
    python benchmarks/shapes_difficulty.py heads --seeds 0 1 2 --iterations 200

`classifier` trains gradient boosting on colour and texture within 15 x 15 pixels and prints its mIoU. `heads` trains
DeepLabv3's head and a plain 1x1 head with the same recipe and seeds, scores the first on the inference ladder, prints
means and differences, and writes results/shapes_heads.csv.
"""

from __future__ import annotations

import argparse
import csv
import statistics
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import confusion_matrix

import atrous
from atrous.data.contracts import SegmentationDataset
from atrous.data.datasets.shapes import build_shapes

RESULTS = Path(__file__).parent.parent / "results" / "shapes_heads.csv"
CONTROL = "fcn-lite0"
MODELS: dict[str, dict[str, Any]] = {"deeplabv3-lite0": {"rates": [4, 8, 12]}, CONTROL: {}}
BUILD_STEP = "output stride 16"
SCALES = (0.75, 1.0, 1.25)
LADDER: dict[str, dict[str, Any]] = {
    BUILD_STEP: {"output_stride": 16},
    "output stride 8": {"output_stride": 8},
    "and scales": {"output_stride": 8, "scales": SCALES},
    "and flip": {"output_stride": 8, "scales": SCALES, "flip": True},
}


def compute_features(image: np.ndarray) -> np.ndarray:
    """Describe each pixel by its window of at most 15 x 15: colours, local mean and deviation, Gabor, binary pattern.

    Shapes:
        in (H, W, 3) uint8 RGB; out (H * W, 33) float32.
    """
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    grey = lab[..., 0]
    columns = [image.astype(np.float32), lab]
    for side in (3, 7, 15):
        mean = cv2.blur(lab, (side, side))
        columns += [mean, np.sqrt(np.maximum(cv2.blur(lab * lab, (side, side)) - mean * mean, 0))]
    for wavelength in (4, 8):
        for angle in np.arange(4) * np.pi / 4:
            kernel = cv2.getGaborKernel((15, 15), wavelength / 2, angle, wavelength, 1)
            columns.append(np.abs(cv2.filter2D(grey, cv2.CV_32F, kernel))[..., None])
    neighbours = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
    pattern = sum((np.roll(grey, place, (0, 1)) > grey) * 2.0**bit for bit, place in enumerate(neighbours))
    columns.append(np.asarray(pattern, np.float32)[..., None])
    return np.concatenate(columns, axis=-1).reshape(image.shape[0] * image.shape[1], -1)


def draw_pixels(dataset: SegmentationDataset, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return features and labels of `pixels` random pixels of each image."""
    generator = np.random.default_rng(0)
    features, labels = [], []
    for sample in map(dataset.get, range(len(dataset))):
        chosen = generator.choice(sample.labels.size, pixels, replace=False)
        features.append(compute_features(sample.image)[chosen])
        labels.append(sample.labels.ravel()[chosen])
    return np.concatenate(features), np.concatenate(labels)


def run_classifier(num_train: int, num_val: int) -> None:
    """Print the mIoU of a classifier that sees 15 x 15 pixels, with and without balanced class weights."""
    splits = build_shapes(num_train=num_train, num_val=num_val)
    features, labels = draw_pixels(splits.train, 400)
    val_features, val_labels = draw_pixels(splits.val, 10_000)
    for class_weight in (None, "balanced"):
        classifier = HistGradientBoostingClassifier(max_iter=100, class_weight=class_weight, random_state=0)
        predicted = classifier.fit(features, labels).predict(val_features)
        confusion = confusion_matrix(val_labels, predicted, labels=range(splits.val.label_space.num_classes))
        iou = confusion.diagonal() / (confusion.sum(0) + confusion.sum(1) - confusion.diagonal())
        classes = ", ".join(f"{name} {v:.2f}" for name, v in zip(splits.val.label_space.names, iou, strict=True))
        print(f"class weights {class_weight or 'none'}: mIoU {iou.mean():.3f} ({classes})")


def run_heads(seeds: list[int], iterations: int, recipe: str, folder: Path) -> None:
    """Train both heads with each seed, score DeepLabv3's on the ladder, print the means, write all rows."""
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        for model, head in MODELS.items():
            run = atrous.train(
                "shapes",
                model=model,
                recipe=recipe,
                iterations=iterations,
                seed=seed,
                out=folder / f"{model}-{seed}",
                set={"model.head": head},
            )
            for step, protocol in LADDER.items():
                if model == CONTROL and step != BUILD_STEP:
                    continue
                miou = atrous.evaluate(run, **protocol).miou
                rows.append({"seed": seed, "model": model, "iterations": iterations, "protocol": step, "miou": miou})
                print(f"seed {seed}, {model}, {step}: {miou:.4f}", flush=True)
                write_rows(rows)
    print_means(rows)


def write_rows(rows: list[dict[str, Any]]) -> None:
    """Write the results so far, so that nothing is lost when the script is stopped."""
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def print_means(rows: list[dict[str, Any]]) -> None:
    """Print the mean over seeds of each step, its gain over the previous one, and the difference to the control."""
    before: float | None = None
    for step in LADDER:
        values = [row["miou"] for row in rows if row["model"] != CONTROL and row["protocol"] == step]
        mean, spread = statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0
        gain = "" if before is None else f"  {100 * (mean - before):+.2f} points"
        print(f"{step:18} {mean:.4f} (standard deviation {spread:.4f} over {len(values)} seeds){gain}")
        before = mean
    pairs: dict[int, dict[str, float]] = {}
    for row in rows:
        if row["protocol"] == BUILD_STEP:
            pairs.setdefault(row["seed"], {})[row["model"]] = row["miou"]
    gaps = [next(miou for model, miou in pair.items() if model != CONTROL) - pair[CONTROL] for pair in pairs.values()]
    listed = ", ".join(f"{100 * gap:+.2f}" for gap in gaps)
    print(f"DeepLabv3 - {CONTROL} at {BUILD_STEP}: {100 * statistics.mean(gaps):+.2f} points (by seed {listed})")
    print(f"written to {RESULTS}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    classifier = commands.add_parser("classifier", help="mIoU from colour and texture only")
    classifier.add_argument("--num-train", type=int, default=200)
    classifier.add_argument("--num-val", type=int, default=40)
    heads = commands.add_parser("heads", help="mIoU of both heads on the inference ladder")
    heads.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    heads.add_argument("--iterations", type=int, default=200)
    heads.add_argument("--recipe", default="demo")
    heads.add_argument("--out", type=Path, default=Path("runs/shapes-heads"), help="folder of the runs")
    given = parser.parse_args()
    if given.command == "classifier":
        run_classifier(given.num_train, given.num_val)
    else:
        run_heads(given.seeds, given.iterations, given.recipe, given.out)


if __name__ == "__main__":
    main()
