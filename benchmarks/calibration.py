"""Whether a temperature that was chosen on some images lowers the calibration error on others, and changes no label.

    python benchmarks/calibration.py --model runs/camvid --data DATA

MODEL was trained on CamVid's train (DATA holds `camvid/`). CamVid's val, one drive, is halved in the middle of its
time. The temperature is chosen on one half and the error is measured on the other one, and the other way round.
OUT/calibration.csv has a row a half.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from harness import RESULTS, parse_options

import atrous
from atrous.data.datasets.camvid import build_camvid
from atrous.data.samples import read_sample
from atrous.inference.labelling.labeller import Labeller
from atrous.metrics.calibration import TEMPERATURES
from atrous.scoring.calibration import choose_on
from atrous.scoring.count import count
from atrous.scoring.summarise import summarise


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this script."""
    parser.add_argument("--model", type=Path, required=True, help="run folder or model file")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds camvid/")
    parser.set_defaults(out=RESULTS.parent)


def main() -> None:
    """Measure both halves and write the table."""
    options = parse_options(__doc__ or "", add_options)
    dataset = build_camvid(options.data / "camvid").val
    model = atrous.load(options.model, device="cpu")
    middle = len(dataset) // 2
    halves = {"first half": range(middle), "second half": range(middle, len(dataset))}
    rows = []
    for name, other in (tuple(halves), tuple(halves)[::-1]):
        labeller = model.build_labeller()
        chosen = choose_on(count(labeller, dataset, halves[name], temperatures=TEMPERATURES), f"camvid val, {name}")
        labeller.chosen = chosen
        counts = count(labeller, dataset, halves[other])
        scores = summarise(counts, labeller, data=f"camvid val, {other}")
        if scores.calibration is None or counts.confidences is None:
            raise SystemExit("no pixel has a label")
        losses = counts.confidences.losses / scores.calibration.pixels
        row = {
            "model": model.card.model["name"],
            "chosen_on": name,
            "images": len(halves[name]),
            "temperature": f"{chosen.temperature:.4g}",
            "measured_on": other,
            "measured_images": len(halves[other]),
            "miou": f"{scores.miou:.4f}",
            "loss_without": f"{losses[0]:.4f}",
            "loss_with": f"{losses[-1]:.4f}",
            "error_without": f"{scores.calibration.error_before:.4f}",
            "error_with": f"{scores.calibration.error:.4f}",
            "pixels_with_another_label": count_changes(model, labeller, dataset, halves[other]),
        }
        rows.append(row)
        print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "calibration.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def count_changes(model: atrous.Model, labeller: Labeller, dataset: object, indices: range) -> int:
    """Return how many pixels another label has with the temperature than without it."""
    plain = model.build_labeller()
    changed = 0
    for index in indices:
        image = read_sample(dataset, index).image
        changed += int(np.count_nonzero(plain.label_image(image).indices != labeller.label_image(image).indices))
    return changed


if __name__ == "__main__":
    main()
