"""What an evaluation costs beyond its confusion matrix: boundaries, parts, calibration and intervals.

    python benchmarks/scoring.py --data DATA
    python benchmarks/scoring.py --data DATA --images 4 --rounds 3

The default model, with random weights, labels images of CamVid (DATA holds `camvid/`). One side counts the confusion
matrix alone, the other one makes all scores of `atrous eval` and keeps the worst images for `--out`; they take turns
on the same images, with one thread. Times are those of the process, in which other processes do not count, but for the
caches and the core that they share. OUT/scoring.csv has the ratio.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import torch
from harness import parse_options, report, take_turns

import atrous
from atrous.data.datasets.camvid import build_camvid
from atrous.data.samples import read_sample
from atrous.metrics.confusion import ConfusionMatrix
from atrous.scoring.count import count
from atrous.scoring.strips import WorstImages
from atrous.scoring.summarise import summarise


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this script."""
    parser.add_argument("--data", type=Path, required=True, help="folder that holds camvid/")
    parser.add_argument("--images", type=int, default=12, help="images in a turn")


def main() -> None:
    """Time both sides and write the table."""
    options = parse_options(__doc__ or "", add_options)
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    dataset = build_camvid(options.data / "camvid").val
    network = atrous.build("deeplabv3-lite0", classes=dataset.label_space.num_classes)
    labeller = atrous.Model(network, classes=list(dataset.label_space.names)).build_labeller()
    chosen = range(options.images)

    def count_confusion() -> None:
        matrix = ConfusionMatrix(dataset.label_space.num_classes)
        for index in chosen:
            sample = read_sample(dataset, index)
            matrix.update(sample.labels, labeller.label_image(sample.image, confidence=False)[0])

    def score_all() -> None:
        summarise(count(labeller, dataset, chosen, on_image=WorstImages()), labeller)

    sides = {"confusion matrix": count_confusion, "all scores": score_all}
    times = take_turns(sides, options.rounds, clock=time.process_time)
    context = {"model": "deeplabv3-lite0", "data": "camvid val", "images": options.images}
    report("scoring", context, times, reference="confusion matrix", options=options)


if __name__ == "__main__":
    main()
