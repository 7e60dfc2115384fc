"""Whether steps of some tenths of a point can be seen on a few hundred images: output stride, DenseCRF and the seed.

    python benchmarks/small_steps.py --data DATA --steps 240 --seeds 0 1 2
    python benchmarks/small_steps.py --smoke --out /tmp/small_steps

The default recipe is trained with several seeds on CamVid without one drive, and on the photographs of animals of
PASCAL VOC. Each model labels the images that were held out at output stride 16 and 8, with and without DenseCRF.
OUT/small_steps.csv has the mIoU of each variant and seed, the difference of each variant from output stride 16, and
that of each two seeds, all with their 95 % interval over images, and OUT/counts the pixel counts of every image, from
which they follow. Neighboring frames of a film resemble each other: intervals over the frames of a drive are too narrow
for other drives.

A training that was cut off continues at its last checkpoint in the folder of `--work`; trainings and scores that exist
are not repeated: run the command again. DATA holds `camvid/` and `voc_animals/`.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path
from statistics import stdev
from typing import Any

import numpy as np
from learning import OURS, Task, Trial, count_images, describe_recipe, train_ours, write_rows
from learning_panel import PANEL, SMOKE

import atrous
from atrous.core.files import atomic_path
from atrous.core.provenance import describe_machine
from atrous.data.contracts import SegmentationDataset
from atrous.metrics.bootstrap import ClassPixels, Estimate, Ratios, Resampling
from atrous.metrics.confusion import compute_tally

RESULTS = Path(__file__).parent.parent / "results" / "small_steps"
PLAIN = "output stride 16"
VARIANTS: dict[str, dict[str, Any]] = {
    PLAIN: {"output_stride": 16},
    "output stride 8": {"output_stride": 8},
    "output stride 16, DenseCRF": {"output_stride": 16, "crf": True},
    "output stride 8, DenseCRF": {"output_stride": 8, "crf": True},
}


def find_parts(name: str, task: Task, data: Path | None) -> dict[str, SegmentationDataset]:
    """Return the images that are scored: those held out, and CamVid's val beside its drive."""
    if name != "camvid-drive" or data is None:
        return {"val": task.splits.val}
    return {"0001TP": task.splits.val, "val": PANEL["camvid"].build(data).val}


def count_variants(run: Path, parts: dict[str, SegmentationDataset], stored: Path, seed: int) -> None:
    """Label each part in each variant and keep the pixel counts of each image."""
    model = atrous.load(run, precision="fp32")
    for (part, dataset), (variant, options) in itertools.product(parts.items(), VARIANTS.items()):
        path = find_counts(stored, part, variant, seed)
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        counts = count_images(
            lambda image, options=options: model.label_space.encode(model.predict(image, **options).labels), dataset
        )
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, counts=counts)
        print(f"{stored.name}, {part}, {variant}, seed {seed}: scored", flush=True)


def find_counts(stored: Path, part: str, variant: str, seed: int) -> Path:
    """Return the file of the pixel counts of one part, variant and seed."""
    return stored / f"{part}-{variant.replace(', ', '-').replace(' ', '-')}-seed{seed}.npz"


def compare(stored: Path, parts: dict[str, SegmentationDataset], seeds: list[int]) -> list[dict[str, Any]]:
    """Return the rows of one data set: scores, steps between variants, and between seeds; of what has been scored."""
    rows: list[dict[str, Any]] = []
    for part, dataset in parts.items():
        resampling = Resampling(range(len(dataset)))
        start = {"data": stored.name, "part": part, "images": len(dataset)}

        def add(what: str, over: Sequence[int], estimate: Estimate, start: dict[str, Any] = start) -> None:
            rows.append(start | {"what": what, "seeds": " ".join(map(str, over))} | describe(estimate))

        scores: dict[str, dict[int, Ratios]] = {
            variant: {
                seed: load_score(path, resampling)
                for seed in seeds
                if (path := find_counts(stored, part, variant, seed)).exists()
            }
            for variant in VARIANTS
        }
        plain = scores[PLAIN]
        for variant, own in scores.items():
            for seed, score in own.items():
                add(variant, [seed], resampling.estimate(score))
            shared = [seed for seed in own if seed in plain and variant != PLAIN]
            for over in [*([seed] for seed in shared), *([shared] if len(shared) > 1 else [])]:
                step = resampling.estimate_difference([own[seed] for seed in over], [plain[seed] for seed in over])
                add(f"{variant}, against {PLAIN}", over, step)
        for first, second in itertools.combinations(plain, 2):
            step = resampling.estimate_difference([plain[second]], [plain[first]])
            add("the second seed against the first", [first, second], step)
        if len(plain) > 1:
            spread = stdev(resampling.estimate(score).value for score in plain.values())
            row = {"what": "standard deviation of the seeds", "seeds": " ".join(map(str, plain))}
            rows.append(start | row | {"miou": f"{spread:.4f}", "from": "", "to": ""})
    return rows


def load_score(path: Path, resampling: Resampling) -> Ratios:
    """Return the IoU of each class by group, from stored pixel counts."""
    with np.load(path) as stored:
        tallies = np.stack([compute_tally(counts) for counts in stored["counts"]])
    return ClassPixels.sum_groups(tallies, resampling).iou


def describe(estimate: Estimate) -> dict[str, str]:
    """Return a score or difference with its interval as columns of a table."""
    low, high = (f"{end:.4f}" for end in estimate.interval) if estimate.interval else ("", "")
    return {"miou": f"{estimate.value:.4f}", "from": low, "to": high}


def main() -> None:
    """Train, score and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds camvid/ and voc_animals/")
    parser.add_argument("--sets", nargs="+", choices=["camvid-drive", "animals"], default=["animals", "camvid-drive"])
    parser.add_argument("--steps", type=int, default=240, help="optimizer steps of each training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--model", default="deeplabv3-lite0")
    parser.add_argument("--work", type=Path, default=Path("runs/small_steps"), help="folder of the trainings")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the table and counts")
    parser.add_argument("--train-only", action="store_true", help="train now, score with a later command")
    parser.add_argument("--smoke", action="store_true", help="two steps on a few small images, to test the script")
    options = parser.parse_args()
    members = {"smoke": SMOKE} if options.smoke else {name: PANEL[name] for name in options.sets}
    steps = 2 if options.smoke else options.steps
    if options.data is None and not options.smoke:
        parser.error("--data is missing")
    tasks = {
        name: Task(name, member, member.build(options.data), model=options.model, crop=member.crop)
        for name, member in members.items()
    }
    for seed, (name, task) in itertools.product(options.seeds, tasks.items()):
        trial = Trial(OURS, {}, describe_recipe(task, OURS, {}), steps, seed)
        print(f"{name}, seed {seed}: {trial.recipe}", flush=True)
        folder = options.work / name / trial.name
        train_ours(task, trial, folder)
        if not options.train_only:
            stored = options.out / "counts" / f"{name}-{steps}-steps"
            count_variants(folder / "run", find_parts(name, task, options.data), stored, seed)
    if options.train_only:
        return
    machine = describe_machine()
    for name, task in tasks.items():
        stored = options.out / "counts" / f"{name}-{steps}-steps"
        rows = compare(stored, find_parts(name, task, options.data), options.seeds)
        write_rows(
            options.out / "small_steps.csv",
            [row | {"cpu": f"{machine['processor']}, {machine['cpu_kind']}"} for row in rows],
        )


if __name__ == "__main__":
    main()
