"""What the default recipe learns, beside a peer whose learning rate is tuned, on a panel of data sets.

    python benchmarks/learning.py --data DATA --minutes 20 --seeds 0 1 2
    python benchmarks/learning.py --data DATA --sets animals --steps 462 --tuning --set training.lr=0.02
    python benchmarks/learning.py --compare results/learning/counts/SET/ONE.npz results/learning/counts/SET/OTHER.npz
    python benchmarks/learning.py --smoke --out /tmp/learning

Both sides start from the same weights of the same backbone, with the same crops, batch and seeds, and take turns. The
peer is trained with each learning rate of a list, and its best score is what counts. With `--minutes` both get the same
time: their steps are timed in turns, and the numbers of steps that fit are kept for all seeds. With `--steps` both
make the same number. `--tuning` scores a part held out of the training images, for the choice of settings; otherwise
the data's own validation images are scored once, after the last step.

A training that was cut off continues at its last checkpoint, in the folder of `--work`; one that is finished is not
repeated: run the command again. OUT/counts has the pixel counts of every scored image of each training, so that any
two can be compared later; OUT/learning.csv has a row for each training; OUT/learning_compared.csv has the means of the
seeds, and the 95 % interval of their difference over images drawn with replacement, if there are ten images or more.
DATA holds `camvid/` and `voc_animals/`.
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
from atrous.core.files import atomic_path, load_json, save_json
from atrous.core.metrics_file import is_finished
from atrous.core.provenance import describe_machine
from atrous.core.records import Progress
from atrous.data.contracts import SegmentationDataset, Splits
from atrous.inference.precision import computes_bf16
from atrous.metrics.bootstrap import ClassPixels, Estimate, Resampling
from atrous.metrics.confusion import ConfusionMatrix, compute_baseline, compute_miou, compute_tally
from atrous.training.optimizers import choose_rates

RESULTS = Path(__file__).parent.parent / "results" / "learning"
PEER_RATES = (0.005, 0.01, 0.02, 0.05)
TIMED_STEPS = 6
"""Steps of each turn whose times count; two more warm up."""
TURNS = 2
OURS, PEER = "atrous", "peer"
RECIPE_FIELDS = (
    *("optimizer", "power", "warmup_fraction", "clip_norm", "ema_decay", "norm_momentum"),
    *("scale_range", "jitter", "loss", "class_weights"),
)
"""Training settings that are spelled out beside the rates: our defaults that have been or may be changed."""
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
        recipe: All that decides what is learned, see `describe_recipe`.
        steps: Optimiser steps.
        seed: Seed of order, crops and new weights.
    """

    side: str
    settings: Mapping[str, Any]
    recipe: str
    steps: int
    seed: int

    @property
    def name(self) -> str:
        """A name for its files, another one for another recipe."""
        return f"{self.side}-{hashlib.sha256(self.recipe.encode()).hexdigest()[:8]}-{self.steps}-seed{self.seed}"


def describe_recipe(task: Task, side: str, settings: Mapping[str, Any]) -> str:
    """Return all that decides what a training learns in one line: defaults are spelled out, since they change."""
    precision = "bf16" if computes_bf16("cpu") else "fp32"
    if side == PEER:
        return f"sgd lr={settings['lr']:g} precision={precision}"
    own = {key.removeprefix("training."): value for key, value in settings.items() if key.startswith("training.")}
    training = TrainingConfig(batch=task.batch, **own)
    rates = choose_rates(training, task.member.weights)
    parts = {
        "weights": task.member.weights,
        "lr": rates.backbone,
        "head_lr": rates.heads,
        "weight_decay": rates.weight_decay,
        "precision": precision,
    }
    parts |= {field: getattr(training, field) for field in RECIPE_FIELDS}
    parts |= {key: value for key, value in own.items() if key not in ("lr", "head_lr_factor", "weight_decay")}
    parts |= {key: value for key, value in settings.items() if not key.startswith("training.")}
    return " ".join(f"{key}={json.dumps(value).replace(' ', '')}" for key, value in parts.items()).replace('"', "")


@dataclass(frozen=True)
class Result:
    """What a training scored.

    Args:
        counts: Pixel counts of each scored image, (N, K, K), rows truth.
        cpu: The processor that trained.
    """

    counts: np.ndarray
    cpu: str

    @property
    def miou(self) -> float:
        """Mean IoU of all images together."""
        return compute_miou(self.counts.sum(0)) or 0.0

    @property
    def baseline(self) -> float:
        """Mean IoU of labelling every pixel with the most frequent class."""
        return compute_baseline(self.counts.sum(0))[1] or 0.0


def run_trial(task: Task, trial: Trial, work: Path, stored: Path) -> Result:
    """Train and score, or continue, or read what an earlier call found.

    Args:
        task: The data.
        trial: The training.
        work: Folder of the task's checkpoints.
        stored: Folder of the task's results.
    """
    path = stored / f"{trial.name}.npz"
    if not path.exists():
        print(f"{task.name}: {trial.side}, {trial.recipe}, {trial.steps} steps, seed {trial.seed}", flush=True)
        predict = {OURS: train_ours, PEER: train_other}[trial.side](task, trial, work / trial.name)
        counts = count_images(predict, task.splits.val).astype(np.uint32)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, counts=counts, recipe=trial.recipe, cpu=describe_machine()["processor"])
    with np.load(path) as arrays:
        result = Result(arrays["counts"].astype(np.int64), str(arrays["cpu"]))
    print(f"{task.name}: {trial.side}, {trial.recipe}, seed {trial.seed}: mIoU {result.miou:.4f}", flush=True)
    return result


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


def resample_difference(ours: Sequence[np.ndarray], peer: Sequence[np.ndarray]) -> Estimate:
    """Return the difference of the mean scores of two sides, with its 95 % interval over images.

    Images are drawn with replacement, the same for both sides and all seeds.

    Args:
        ours: Counts of each seed, (N, K, K).
        peer: The same of the other side, in the same order of images.
    """
    resampling = Resampling(range(len(ours[0])))
    sides = (
        [ClassPixels.sum_groups(compute_tally(counts), resampling).iou for counts in side] for side in (ours, peer)
    )
    return resampling.estimate_difference(*sides)


def plan_steps(task: Task, minutes: float, settings: Mapping[str, Any], work: Path, stored: Path) -> dict[str, int]:
    """Return how many steps of each side take so many minutes; timed once, in turns, and then kept.

    Args:
        task: The data.
        minutes: Minutes of optimiser steps.
        settings: Our settings.
        work: Folder of the task's checkpoints.
        stored: Folder of the task's results, which keeps the plan.
    """
    sides = {OURS: settings, PEER: {"lr": PEER_RATES[0]}}
    trials = {
        side: Trial(side, given, describe_recipe(task, side, given), TIMED_STEPS + 2, 0)
        for side, given in sides.items()
    }
    path = stored / f"plan-{minutes:g}min-{trials[OURS].name}.json"
    if not path.exists():
        times: dict[str, list[float]] = {OURS: [], PEER: []}
        for _ in range(TURNS):
            for side, trial in trials.items():
                times[side] += time_steps(task, trial, work / "timing")
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


def compare(
    task: Task, options: argparse.Namespace, work: Path, stored: Path, part: str
) -> tuple[list[Row], list[Row]]:
    """Run all trainings of a data set; return a row for each, and a row for the comparison if both sides ran.

    Args:
        task: The data.
        options: The command's options.
        work: Folder of the task's checkpoints.
        stored: Folder of the task's results.
        part: What is scored, for the tables.
    """
    settings = dict(map(read_assignment, options.set))
    steps = {OURS: options.steps, PEER: options.steps}
    if options.minutes is not None:
        steps = plan_steps(task, options.minutes, settings, work, stored)
    common = {"data": task.name, "scored": part, "model": task.model, "minutes": options.minutes or ""}
    rows: list[Row] = []

    def run(side: str, given: Mapping[str, Any], seed: int) -> Result:
        trial = Trial(side, given, describe_recipe(task, side, given), steps[side], seed)
        result = run_trial(task, trial, work, stored)
        what = {"cpu": result.cpu, "side": side, "recipe": trial.recipe, "steps": trial.steps, "seed": seed}
        rows.append({**common, **what, "miou": f"{result.miou:.4f}", "baseline": f"{result.baseline:.4f}"})
        return result

    sides: dict[str, list[Result]] = {OURS: [], PEER: []}
    best = {}
    for seed in options.seeds:
        if OURS in options.sides:
            sides[OURS].append(run(OURS, settings, seed))
        if PEER in options.sides:
            # The rate is chosen with the first seed, by the score that counts: the peer's favour.
            tried = {rate: run(PEER, {"lr": rate}, seed) for rate in ([best[PEER]] if best else options.peer_rates)}
            best[PEER] = max(tried, key=lambda rate: tried[rate].miou)
            sides[PEER].append(tried[best[PEER]])
    if not all(sides.values()):
        return rows, []
    means = {side: statistics.fmean(result.miou for result in results) for side, results in sides.items()}
    counts = {side: [result.counts for result in results] for side, results in sides.items()}
    difference = resample_difference(counts[OURS], counts[PEER])
    compared = {
        **common,
        "recipe": describe_recipe(task, OURS, settings),
        "seeds": " ".join(map(str, options.seeds)),
        "atrous_steps": steps[OURS],
        "peer_steps": steps[PEER],
        "peer_lr": best[PEER],
        "atrous": f"{means[OURS]:.4f}",
        "peer": f"{means[PEER]:.4f}",
        "difference": f"{difference.value:+.4f}",
        "from": "" if difference.low is None else f"{difference.low:+.4f}",
        "to": "" if difference.high is None else f"{difference.high:+.4f}",
    }
    print(", ".join(f"{key} {value}" for key, value in compared.items()), flush=True)
    return rows, [compared]


def read_assignment(text: str) -> tuple[str, Any]:
    """Split `key=value`; the value is YAML."""
    key, _, value = text.partition("=")
    return key, YAML(typ="safe").load(value)


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Add rows to a table; those that differ in figures alone replace older ones."""
    figures = {
        "cpu",
        "miou",
        "baseline",
        "atrous",
        "peer",
        "difference",
        "from",
        "to",
        "peer_lr",
        "is_finite",
        "is_better",
        "seconds",
    }

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
    parser.add_argument("--weights", choices=["imagenet", "none"], help="by default those of the data set")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--crop", type=int, help="side of the crops; by default that of the data set")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of ours")
    parser.add_argument("--tuning", action="store_true", help="score a part held out of the training images")
    parser.add_argument("--work", type=Path, default=Path("runs/learning"), help="folder of checkpoints")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the tables and counts")
    parser.add_argument("--smoke", action="store_true", help="three steps on a few small images, to test the script")
    parser.add_argument(
        "--compare",
        type=Path,
        nargs=2,
        metavar="COUNTS",
        help="print how much higher the first training scored; no more",
    )
    options = parser.parse_args()
    if options.compare:
        counts = [np.load(path)["counts"].astype(np.int64) for path in options.compare]
        found = resample_difference(counts[:1], counts[1:])
        points = [100 * each for each in (found.value, found.low, found.high) if each is not None]
        print(f"{points[0]:+.2f} points, 95 % {' to '.join(f'{each:+.2f}' for each in points[1:]) or 'unknown'}")
        return
    if options.model != parser.get_default("model") and PEER in options.sides and not options.smoke:
        parser.error(f"the peer has the backbone of {parser.get_default('model')}: add --sides {OURS}")
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
        member = replace(member, weights=options.weights or member.weights)
        task = Task(name, member, splits, options.batch, options.model, options.crop or member.crop)
        folder = f"{name}-{options.model}-{part.replace(' ', '-')}-batch{task.batch}-crop{task.crop}"
        rows, compared = compare(task, options, options.work / folder, options.out / "counts" / folder, part)
        write_rows(options.out / "learning.csv", rows)
        write_rows(options.out / "learning_compared.csv", compared)


if __name__ == "__main__":
    main()
