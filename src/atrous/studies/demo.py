"""The demo: train on `shapes`, score the inference ladder, predict validation images, write the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from atrous.api import Run, evaluate, predict, rebuild_splits, run_training
from atrous.config.load import load_config
from atrous.core.errors import note_on_stop
from atrous.core.metrics_file import load_metrics, save_metrics
from atrous.core.records import MessageCallback, ProgressCallback, Protocol
from atrous.core.run_folder import RunFolder
from atrous.images.encode import encode_png, save_encoded
from atrous.reports.html import write_report

LADDER: tuple[dict[str, Any], ...] = (
    {"output_stride": 8},
    {"output_stride": 8, "scales": (0.75, 1.0, 1.25)},
    {"output_stride": 8, "scales": (0.75, 1.0, 1.25), "flip": True},
)
"""Protocols beyond that of the training, each more expensive than the previous one.

Source: Chen et al. 2017 (arXiv 1706.05587), Tables 4 and 6.
"""

HELD_OUT_IMAGES = 8


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    progress: ProgressCallback | None = None,
    on_message: MessageCallback | None = None,
) -> Run:
    """Train on `shapes`, score the inference ladder, predict validation images, and write the report.

    Args:
        out: Run folder.
        seed: Seed of the training.
        progress: Receives the progress.
        on_message: Receives messages about automatic choices and findings.
    Raises:
        UsageError: The folder already contains a run.
    """
    on_message = on_message or (lambda text: None)
    loaded = load_config(recipe="demo", options={"output.folder": str(out), "training.seed": seed})
    run = run_training(loaded, progress=progress, on_message=on_message)
    if run.interrupted:
        return run
    with note_on_stop(lambda error: f"The training had finished, its report is {run.report}."):
        for row in run_ladder(run, progress=progress):
            on_message(f"ladder: {row['describe']}: mIoU {row['miou']:.3f}")
        folder = predict_held_out(run)
    on_message(f"predictions for {HELD_OUT_IMAGES} validation images: {folder}")
    return run


def run_ladder(run: Run, *, progress: ProgressCallback | None = None) -> list[dict[str, Any]]:
    """Score a run under every protocol of the ladder, and add the scores to its metrics and report.

    Args:
        run: A finished run.
        progress: Receives the progress.
    Returns: One row per protocol, the run's own first, with the keys protocol, describe and miou.
    """
    metrics = load_metrics(RunFolder(run.folder).metrics)
    rows = [_describe_step(Protocol.from_json(metrics["protocol"]), metrics["miou"])]
    for options in LADDER:
        scores = evaluate(run, progress=progress or False, **options)
        rows.append(_describe_step(scores.protocol, scores.miou))
    save_metrics(RunFolder(run.folder).metrics, metrics | {"ladder": rows})
    write_report(run.folder)
    return rows


def _describe_step(protocol: Protocol, miou: float | None) -> dict[str, Any]:
    return {"protocol": protocol.to_json(), "describe": protocol.describe(), "miou": miou}


def predict_held_out(run: Run) -> Path:
    """Save a few validation images as files, and predict them from these files as a user would.

    Returns: The folder of the predictions.
    """
    val = rebuild_splits(run.folder).val
    images = run.folder / "images"
    for index in range(min(HELD_OUT_IMAGES, len(val))):
        sample = val.get(index)
        save_encoded(images / f"{Path(sample.key).name}.png", encode_png(sample.image))
    return predict(
        images, run, run.folder / "predictions", formats=("ids", "overlay", "confidence"), progress=False
    ).folder
