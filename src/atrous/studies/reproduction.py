"""Carrying out a study: plan its rows, train and score them, and compare the scores with the paper.

Trainings are stored in `trainings/`, named by a hash of their settings and by their seed, so rows and tables that need
the same network share it. Finished trainings and scores are reused, and an interrupted training continues.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atrous.api import evaluate, rebuild_splits, run_training
from atrous.config.load import LoadedConfig
from atrous.core.errors import ConfigError, note_on_stop
from atrous.core.files import load_json, save_json, save_text
from atrous.core.metrics_file import is_finished, load_metrics
from atrous.core.output_folder import require_place
from atrous.core.provenance import collect_provenance
from atrous.core.records import MessageCallback, ProgressCallback
from atrous.core.run_folder import RunFolder
from atrous.data.build import build_splits
from atrous.networks.build import build_network
from atrous.reports.plots import save_study_plot
from atrous.reports.studies import format_study
from atrous.studies.cost import count_flops, time_step
from atrous.studies.study import Base, Row, Study, compute_hash, compute_standard_error, judge_claim, name_training
from atrous.training.crop import require_cells

TRAININGS = "trainings"


@dataclass(frozen=True)
class PlannedRow:
    """A row with the cost of its network, before any training.

    Args:
        row: The row.
        reason: Why the row is not possible on this base; empty if it is possible.
        training: Folder name of the training; rows with the same name share the training.
        parameters: Number of parameters of the network.
        step_flops: Floating-point operations of the forward pass of one training step.
        image_flops: Floating-point operations of labelling one image of the size of the crop under the row's protocol.
    """

    row: Row
    reason: str = ""
    training: str = ""
    parameters: int = 0
    step_flops: int = 0
    image_flops: int = 0


@dataclass(frozen=True)
class Score:
    """Result of one row with one seed.

    Args:
        miou: In [0, 1]; 0 if nothing could be scored.
        steps: Optimiser steps of the training.
        training_s: Duration of the training in seconds, including validation and report.
        image_s: Seconds to label and score one image.
        folder: Run folder of the training.
    """

    miou: float
    steps: int
    training_s: float
    image_s: float
    folder: str


def plan_study(study: Study, base: Base) -> tuple[PlannedRow, ...]:
    """Determine which rows are possible and what they cost, without training. The data has to exist.

    Args:
        study: The study.
        base: Settings shared by its rows.
    Raises:
        ConfigError: No row is possible.
        DataError: The data does not exist.
    """
    num_classes = build_splits(base.load({}).config.data).train.label_space.num_classes
    planned = tuple(_plan_row(row, base, num_classes) for row in study.rows)
    if all(entry.reason for entry in planned):
        raise ConfigError(
            f"{study.name}: no row is possible; the first is {planned[0].reason}",
            "Choose another `backbone`, such as resnet50, or another `crop`.",
        )
    return planned


def _plan_row(row: Row, base: Base, num_classes: int) -> PlannedRow:
    try:
        loaded = base.load(row.settings)
        training = loaded.config.training
        network = build_network(loaded.config.model, num_classes).eval()
        require_cells(network, training.crop)
        step_flops = count_flops(network, training.crop) * training.batch_size * training.accumulate
        network.output_stride = row.inference.get("output_stride", network.output_stride)
    except ConfigError as error:
        reason = "; ".join(error.message.splitlines())
        return PlannedRow(row, f"not possible with {base.backbone}: {reason}")
    looks = {key: value for key, value in row.inference.items() if key in ("scales", "flip")}
    return PlannedRow(
        row,
        training=name_training(loaded),
        parameters=sum(p.numel() for p in network.parameters()),
        step_flops=step_flops,
        image_flops=count_flops(network, base.crop, **looks),
    )


def estimate_seconds(planned: Sequence[PlannedRow], base: Base, *, num_seeds: int) -> float:
    """Estimate the duration of all trainings from one timed step of each distinct network, without scoring.

    Args:
        planned: The planned rows of a study.
        base: Settings shared by the rows.
        num_seeds: Trainings per row.
    Returns: Seconds.
    """
    num_classes = build_splits(base.load({}).config.data).train.label_space.num_classes
    rows = {entry.training: entry.row for entry in planned if not entry.reason}
    configs = [base.load(row.settings).config for row in rows.values()]
    steps = [time_step(config, num_classes) * (config.training.iterations or 0) for config in configs]
    return sum(steps) * num_seeds


def run_study(
    study: Study,
    base: Base,
    out: Path,
    *,
    seeds: Sequence[int] = (0,),
    progress: ProgressCallback | None = None,
    on_message: MessageCallback | None = None,
) -> dict[str, Any]:
    """Train and score every row not finished yet, and write `table.json`, `table.md` and `plot.png`.

    Args:
        study: The study.
        base: Settings shared by its rows.
        out: Folder of all studies; the table is written to a sub-folder with the name of the study.
        seeds: Each row is trained with each seed: all rows with the first seed, then all with the second.
        progress: Receives the progress.
        on_message: Receives messages about automatic choices and findings.
    Returns: The table as written; `interrupted` tells whether trainings remain.
    Raises:
        ConfigError: No row is possible.
        DataError: The data cannot be used for training.
    """
    on_message = on_message or (lambda text: None)
    require_place(out / study.name / "table.json")
    planned = plan_study(study, base)
    for entry in planned:
        if entry.reason:
            on_message(f"{entry.row.label}: {entry.reason}")
    scores: dict[str, dict[int, Score]] = {entry.row.label: {} for entry in planned}
    interrupted = False
    for seed, entry in ((seed, entry) for seed in seeds for entry in planned if not entry.reason):
        with note_on_stop(lambda error: "Finished trainings and scores are kept: the same command continues."):
            score = _run_row(entry.row, base, out / TRAININGS, seed=seed, progress=progress, on_message=on_message)
        if score is None:
            interrupted = True
            break
        scores[entry.row.label][seed] = score
        on_message(f"{entry.row.label}, seed {seed}: mIoU {score.miou:.1%}")
    table = {
        **_describe_study(study, base, seeds),
        "rows": [_describe_row(entry, scores[entry.row.label]) for entry in planned],
        "claims": _judge_claims(study, scores),
        "interrupted": interrupted,
        **collect_provenance(),
    }
    folder = out / study.name
    save_json(folder / "table.json", table)
    save_text(folder / "table.md", format_study(table))
    save_study_plot(table, folder / "plot.png")
    return table


def _run_row(
    row: Row, base: Base, folder: Path, *, seed: int, progress: ProgressCallback | None, on_message: MessageCallback
) -> Score | None:
    """Train and score one row, reusing finished results; None if the training was interrupted."""
    loaded = base.load(row.settings, seed=seed)
    training = folder / name_training(loaded)
    if not is_finished(RunFolder(training).metrics):
        on_message(f"{row.label}, seed {seed}: {training}")
        if not _train(base.load(row.settings, seed=seed, folder=str(training)), training, progress, on_message):
            return None
    saved = training / "scores" / f"{compute_hash(dict(row.inference))}.json"
    if not saved.is_file():
        begun = time.monotonic()
        scores = evaluate(training, rebuild_splits(training).val, progress=progress or False, **row.inference)
        seconds = (time.monotonic() - begun) / len(scores.images)
        save_json(saved, scores.to_json() | {"inference": dict(row.inference), "image_s": seconds})
    found, trained = load_json(saved), load_metrics(RunFolder(training).metrics)["training"]
    return Score(found["miou"] or 0.0, trained["steps"], trained["seconds"], found["image_s"], str(training))


def _train(
    loaded: LoadedConfig, training: Path, progress: ProgressCallback | None, on_message: MessageCallback
) -> bool:
    """Train, or continue an interrupted training; returns whether it finished."""
    run = RunFolder(training)
    resume = training if run.checkpoint.is_file() else None
    if resume is None:
        for path in (run.config, run.images, run.log):  # killed before its first checkpoint: start from scratch
            path.unlink(missing_ok=True)
    if run_training(loaded, resume=resume, progress=progress, on_message=on_message).interrupted:
        return False
    run.checkpoint.unlink()  # two thirds of the folder's size, and no longer needed
    return True


def _describe_study(study: Study, base: Base, seeds: Sequence[int]) -> dict[str, Any]:
    return {
        "table": study.name,
        "title": study.title,
        "paper_protocol": study.protocol,
        "notes": list(study.notes),
        "base": asdict(base),
        "seeds": list(seeds),
    }


def _describe_row(entry: PlannedRow, scores: Mapping[int, Score]) -> dict[str, Any]:
    mious = [score.miou for score in scores.values()]
    row = entry.row
    return {
        "label": row.label,
        "settings": dict(row.settings),
        "inference": dict(row.inference),
        "not_possible": entry.reason,
        "miou": statistics.mean(mious) if mious else None,
        "standard_error": compute_standard_error(mious),
        "miou_by_seed": {str(seed): score.miou for seed, score in scores.items()},
        "paper_miou": None if row.paper_miou is None else round(row.paper_miou / 100, 4),
        "parameters": entry.parameters,
        "image_gflops": entry.image_flops / 1e9,
        "steps": max((score.steps for score in scores.values()), default=None),
        "training_s": _average([score.training_s for score in scores.values()]),
        "image_s": _average([score.image_s for score in scores.values()]),
        "folders": [score.folder for score in scores.values()],
    }


def _average(values: Sequence[float]) -> float | None:
    return statistics.mean(values) if values else None


def _judge_claims(study: Study, scores: Mapping[str, Mapping[int, Score]]) -> list[dict[str, Any]]:
    by_seed = {label: {seed: score.miou for seed, score in found.items()} for label, found in scores.items()}
    return [asdict(claim) | asdict(judge_claim(by_seed[claim.better], by_seed[claim.worse])) for claim in study.claims]
