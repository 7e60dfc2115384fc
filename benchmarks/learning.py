"""What the default recipe learns, beside a peer whose learning rate is tuned, on a panel of data sets.

    python benchmarks/learning.py --data DATA --minutes 20 --seeds 0 1 2
    python benchmarks/learning.py --data DATA --sets animals --steps 462 --tuning --set training.lr=0.02
    python benchmarks/learning.py --smoke --out /tmp/learning

Both sides start from the same weights of the same backbone, with the same crops, batch and seeds, and take turns. The
peer is trained with each learning rate of a list, and its best score is what counts. With `--minutes` both get the same
time: their steps are timed in turns, and the numbers of steps that fit are kept for all seeds. With `--steps` both
make the same number. `--tuning` scores a part held out of the training images, for the choice of settings; otherwise
the data's own validation images are scored once, after the last step.

A training that was cut off continues at its last checkpoint, and one that is finished is not repeated: run the command
again. Checkpoints and the counts of every image are stored in the folder of `--work`. OUT/learning.csv has a row for
each training; OUT/learning_compared.csv has the means of the seeds, and the 95 % interval of their difference over
images drawn with replacement. DATA holds `camvid/` and `voc_animals/`.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from harness import read_table
from learning_panel import PANEL, SMOKE, TUNING_PANEL, Member, View
from learning_peer import label, train_peer
from ruamel.yaml import YAML

import atrous
from atrous.config.schema import TrainingConfig
from atrous.core.files import load_json, save_json
from atrous.core.metrics_file import is_finished
from atrous.core.provenance import describe_machine
from atrous.core.records import Progress
from atrous.data.contracts import SegmentationDataset, Splits
from atrous.metrics.confusion import ConfusionMatrix

RESULTS = Path(__file__).parent.parent / "results" / "learning"
PEER_RATES = (0.005, 0.01, 0.02, 0.05)
TIMED_STEPS = 6
"""Steps of each turn whose times count; two more warm up."""
TURNS = 2
RESAMPLINGS = 2000
OURS, PEER = "atrous", "peer"
Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """What both sides are given.

    Args:
        name: Name of the data, for tables.
        member: The data set of the panel.
        splits: Its data.
        batch: Images in a step.
        model: Our model; the peer has its own form of the default one.
        crop: Side of the training crop in pixels.
    """

    name: str
    member: Member
    splits: Splits
    batch: int = 8
    model: str = "deeplabv3-lite0"
    crop: int = 321


@dataclass(frozen=True)
class Trial:
    """One training.

    Args:
        side: "atrous" or "peer".
        settings: Our settings that differ from the defaults, or the peer's learning rate.
        steps: Optimiser steps.
        seed: Seed of order, crops and new weights.
    """

    side: str
    settings: Mapping[str, Any]
    steps: int
    seed: int

    @property
    def recipe(self) -> str:
        """The settings in a few words."""
        return " ".join(f"{key}={json.dumps(value)}" for key, value in self.settings.items()) or "defaults"

    @property
    def folder_name(self) -> str:
        """A name for its folder, another one for other defaults: no training is taken for one of other settings."""
        words = "".join(letter if letter.isalnum() or letter in "=.-_" else "-" for letter in self.recipe)
        if self.side == OURS:
            defaults = TrainingConfig().model_dump_json()
            words += f"-{hashlib.sha256(defaults.encode()).hexdigest()[:6]}"
        return f"{self.side}-{words}-{self.steps}-seed{self.seed}"


def run_trial(task: Task, trial: Trial, work: Path) -> np.ndarray:
    """Train and score, or continue, or read what an earlier call found.

    Args:
        task: The data.
        trial: The training.
        work: Folder of the task.
    Returns: Pixel counts of each scored image, (N, K, K), rows truth.
    """
    folder = work / trial.folder_name
    result = folder / "counts.npy"
    if not result.exists():
        print(f"{task.name}: {trial.side}, {trial.recipe}, {trial.steps} steps, seed {trial.seed}", flush=True)
        predict = {OURS: train_ours, PEER: train_other}[trial.side](task, trial, folder)
        counts = count_images(predict, task.splits.val)
        save_json(folder / "machine.json", describe_machine())
        np.save(folder / "unfinished.npy", counts)
        (folder / "unfinished.npy").replace(result)
    counts = np.load(result)
    print(f"{task.name}: {trial.side}, {trial.recipe}, seed {trial.seed}: mIoU {compute_miou(counts.sum(0)):.4f}")
    return counts


def train_ours(
    task: Task, trial: Trial, folder: Path, progress: Callable[[Progress], None] | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Train a model of ours, and return what labels an image with it."""
    run = folder / "run"
    pair = (task.splits.train, task.splits.val)
    if not is_finished(run / "metrics.json"):
        if (run / "last.ckpt").exists():
            done = atrous.train(pair, resume=run, progress=progress or print_progress())
        else:
            shutil.rmtree(run, ignore_errors=True)
            done = atrous.train(
                pair,
                model=task.model,
                out=run,
                weights=task.member.weights,
                iterations=trial.steps,
                batch=task.batch,
                crop=task.crop,
                seed=trial.seed,
                set={"training.validations": 1, **task.member.settings, **trial.settings},
                progress=progress or print_progress(),
            )
        if done.interrupted:
            raise KeyboardInterrupt
    model = atrous.load(run, precision="fp32")
    return lambda image: model.label_space.encode(model.predict(image).labels)


def train_other(
    task: Task, trial: Trial, folder: Path, on_step: Callable[[int], None] | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """Train the peer, and return what labels an image with it."""
    training = TrainingConfig(crop=task.crop, batch=task.batch, seed=trial.seed, lr=trial.settings["lr"])
    show = print_progress()
    network = train_peer(
        task.splits.train,
        training,
        trial.steps,
        folder,
        weights=task.member.weights,
        on_step=on_step or (lambda step: show(Progress("training", step, trial.steps))),
    )
    return partial(label, network)


def print_progress(every_s: float = 60.0) -> Callable[[Progress], None]:
    """Return a callback that prints how far a training is, once a minute."""
    begun = last = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal last
        now = time.monotonic()
        if progress.stage == "training" and now - last > every_s:
            last = now
            print(
                f"  step {progress.done} of {progress.total}, {(now - begun) / 60:.0f} min {progress.note}", flush=True
            )

    return show


def count_images(predict: Callable[[np.ndarray], np.ndarray], dataset: SegmentationDataset) -> np.ndarray:
    """Count the pixels of each image by true and predicted class, (N, K, K), rows truth."""
    counts = []
    for sample in map(dataset.get, range(len(dataset))):
        matrix = ConfusionMatrix(dataset.label_space.num_classes)
        matrix.update(sample.labels, predict(sample.image))
        counts.append(matrix.counts)
    return np.stack(counts)


def compute_miou(counts: np.ndarray) -> np.ndarray:
    """Return the mean IoU over the classes that occur.

    Shapes:
        in (..., K, K) pixel counts, rows truth; out (...).
    """
    hits = np.diagonal(counts, axis1=-2, axis2=-1).astype(np.float64)
    union = counts.sum(-1) + counts.sum(-2) - hits
    with np.errstate(invalid="ignore"):
        miou: np.ndarray = np.nanmean(np.where(union > 0, hits / union, np.nan), axis=-1)
    return miou


def resample_difference(ours: Sequence[np.ndarray], peer: Sequence[np.ndarray]) -> tuple[float, float, float]:
    """Return the difference of the mean scores of two sides, with its 95 % interval over images.

    Images are drawn with replacement, the same for both sides and all seeds.

    Args:
        ours: Counts of each seed, (N, K, K).
        peer: The same of the other side, in the same order of images.
    """
    size, generator = len(ours[0]), np.random.default_rng(0)
    draws = generator.multinomial(size, np.full(size, 1.0 / size), RESAMPLINGS)

    def score(weights: np.ndarray) -> np.ndarray:
        sides = [[compute_miou(np.tensordot(weights, counts, 1)) for counts in side] for side in (ours, peer)]
        difference: np.ndarray = np.mean(sides[0], axis=0) - np.mean(sides[1], axis=0)
        return difference

    low, high = np.quantile(score(draws), (0.025, 0.975))
    return float(score(np.ones(size))), float(low), float(high)


def plan_steps(task: Task, minutes: float, settings: Mapping[str, Any], work: Path) -> dict[str, int]:
    """Return how many steps of each side take so many minutes; timed once, in turns, and then kept.

    Args:
        task: The data.
        minutes: Minutes of optimiser steps.
        settings: Our settings.
        work: Folder of the task, which keeps the plan.
    """
    path = work / f"plan-{minutes:g}min-{Trial(OURS, settings, 0, 0).folder_name}.json"
    if not path.exists():
        times: dict[str, list[float]] = {OURS: [], PEER: []}
        for _ in range(TURNS):
            for side, given in ((OURS, settings), (PEER, {"lr": PEER_RATES[0]})):
                times[side] += time_steps(task, Trial(side, given, TIMED_STEPS + 2, 0), work / "timing")
        seconds = {side: statistics.median(values) for side, values in times.items()}
        steps = {side: max(round(60 * minutes / each), 1) for side, each in seconds.items()}
        save_json(path, {"steps": steps, "seconds_per_step": seconds, "machine": describe_machine()})
    plan = load_json(path)
    print(f"{task.name}: {minutes:g} minutes are {plan['steps']}, at {plan['seconds_per_step']} seconds a step")
    steps_of: dict[str, int] = plan["steps"]
    return steps_of


def time_steps(task: Task, trial: Trial, folder: Path) -> list[float]:
    """Return the seconds of the steps of a short training, but for the first two."""
    moments = [time.monotonic()]
    few = replace(task, splits=Splits(task.splits.train, View(task.splits.val, "one image", [0]), task.splits.layout))
    shutil.rmtree(folder, ignore_errors=True)
    if trial.side == OURS:
        train_ours(few, trial, folder, lambda p: moments.append(time.monotonic()) if p.stage == "training" else None)
    else:
        train_other(few, trial, folder, lambda _: moments.append(time.monotonic()))
    return list(np.diff(moments)[-TIMED_STEPS:])


def compare(task: Task, options: argparse.Namespace, work: Path, part: str) -> tuple[list[Row], list[Row]]:
    """Run all trainings of a data set; return a row for each, and a row for the comparison if both sides ran.

    Args:
        task: The data.
        options: The command's options.
        work: Folder of the task.
        part: What is scored, for the tables.
    """
    settings = dict(map(read_assignment, options.set))
    steps = {OURS: options.steps, PEER: options.steps}
    if options.minutes is not None:
        steps = plan_steps(task, options.minutes, settings, work)
    processor = describe_machine()["processor"]
    common = {
        "data": task.name,
        "scored": part,
        "model": task.model,
        "minutes": options.minutes or "",
        "cpu": processor,
    }
    rows: list[Row] = []

    def run(side: str, given: Mapping[str, Any], seed: int) -> np.ndarray:
        trial = Trial(side, given, steps[side], seed)
        counts = run_trial(task, trial, work)
        what = {"side": side, "recipe": trial.recipe, "steps": trial.steps, "seed": seed}
        rows.append({**common, **what, "miou": f"{compute_miou(counts.sum(0)):.4f}"})
        return counts

    sides: dict[str, list[np.ndarray]] = {OURS: [], PEER: []}
    best = {}
    for seed in options.seeds:
        if OURS in options.sides:
            sides[OURS].append(run(OURS, settings, seed))
        if PEER in options.sides:
            # The rate is chosen with the first seed, by the score that counts: the peer's favour.
            tried = {rate: run(PEER, {"lr": rate}, seed) for rate in ([best[PEER]] if best else options.peer_rates)}
            best[PEER] = max(tried, key=lambda rate: float(compute_miou(tried[rate].sum(0))))
            sides[PEER].append(tried[best[PEER]])
    if not all(sides.values()):
        return rows, []
    means = {side: np.mean([compute_miou(counts.sum(0)) for counts in results]) for side, results in sides.items()}
    difference, low, high = resample_difference(sides[OURS], sides[PEER])
    compared = {
        **common,
        "recipe": Trial(OURS, settings, 0, 0).recipe,
        "seeds": " ".join(map(str, options.seeds)),
        "atrous_steps": steps[OURS],
        "peer_steps": steps[PEER],
        "peer_lr": best[PEER],
        "atrous": f"{means[OURS]:.4f}",
        "peer": f"{means[PEER]:.4f}",
        "difference": f"{difference:+.4f}",
        "from": f"{low:+.4f}",
        "to": f"{high:+.4f}",
    }
    print(", ".join(f"{key} {value}" for key, value in compared.items()), flush=True)
    return rows, [compared]


def read_assignment(text: str) -> tuple[str, Any]:
    """Split `key=value`; the value is YAML."""
    key, _, value = text.partition("=")
    return key, YAML(typ="safe").load(value)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Add rows to a table; those that differ in figures alone replace older ones."""
    figures = {"miou", "atrous", "peer", "difference", "from", "to", "peer_lr"}

    def identify(row: Row) -> tuple[tuple[str, str], ...]:
        return tuple((key, str(value)) for key, value in row.items() if key not in figures)

    merged = {identify(row): row for row in [*read_table(path), *rows]}
    if not merged:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(next(iter(merged.values()))), lineterminator="\n")
        writer.writeheader()
        writer.writerows(merged.values())


def main() -> None:
    """Run the trainings that the command names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds camvid/ and voc_animals/")
    known = {**PANEL, **TUNING_PANEL}
    parser.add_argument(
        "--sets", nargs="+", choices=list(known), default=list(PANEL), metavar="SET", help=", ".join(known)
    )
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="the same minutes of optimiser steps for both sides")
    length.add_argument("--steps", type=int, help="the same number of optimiser steps for both sides")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--sides", nargs="+", choices=[OURS, PEER], default=[OURS, PEER])
    parser.add_argument(
        "--peer-rates", type=float, nargs="+", default=list(PEER_RATES), help="learning rates of the peer"
    )
    parser.add_argument("--model", default="deeplabv3-lite0", help="our model")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, help="side of the crops; by default that of the data set")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of ours")
    parser.add_argument("--tuning", action="store_true", help="score a part held out of the training images")
    parser.add_argument("--work", type=Path, default=Path("runs/learning"), help="folder of checkpoints and counts")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the tables")
    parser.add_argument("--smoke", action="store_true", help="three steps on a few small images, to test the script")
    options = parser.parse_args()
    members: dict[str, Member] = {name: known[name] for name in options.sets}
    if options.smoke:
        members = {"smoke": SMOKE}
        options.peer_rates = options.peer_rates[:2]
    elif options.data is None:
        parser.error("--data is missing")
    if options.minutes is None and options.steps is None:
        options.steps = 3 if options.smoke else parser.error("give --minutes or --steps")
    for name, member in members.items():
        part = "held out" if options.tuning else "val"
        splits = (member.build_tuning if options.tuning else member.build)(options.data)
        task = Task(name, member, splits, options.batch, options.model, options.crop or member.crop)
        work = options.work / f"{name}-{options.model}-{part.replace(' ', '-')}-batch{task.batch}-crop{task.crop}"
        rows, compared = compare(task, options, work, part)
        write_rows(options.out / "learning.csv", rows)
        write_rows(options.out / "learning_compared.csv", compared)


if __name__ == "__main__":
    main()
