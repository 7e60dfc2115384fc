"""One model scored, and what `atrous eval --out` writes: scores, a row an image, plots, and the worst images."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atrous.core.files import load_json, save_json, save_text
from atrous.core.output_folder import require_folder, require_replaceable
from atrous.core.provenance import collect_provenance
from atrous.core.records import ImageScore, MessageCallback, ProgressCallback, Scores
from atrous.data.contracts import SegmentationDataset
from atrous.images.encode import encode_png, save_encoded
from atrous.runs.scored_model import Loadable, ScoresCallback, measure, name_models
from atrous.scoring.compare import Measured
from atrous.scoring.strips import WORST_IMAGES, WorstImages

if TYPE_CHECKING:
    from atrous.training.world import World

SCORES, IMAGES, RELIABILITY, CURVE, WORST = (
    "scores.json",
    "images.csv",
    "reliability.png",
    "precision_recall.png",
    "worst",
)
"""Names of the files, and of the folder with the worst images: image, truth, prediction."""


def evaluate_together(
    world: World,
    model: Loadable,
    data: SegmentationDataset | str | Path | None,
    *,
    out: str | Path | None,
    overwrite: bool,
    data_root: str | Path | None,
    progress: ProgressCallback | None,
    on_message: MessageCallback | None,
    on_scores: ScoresCallback | None,
    **options: Any,
) -> Scores:
    """Score a model as `atrous.evaluate` does, in processes that share out the images; one of them writes.

    Args:
        world: The processes; all of them get the scores.
        model: See `atrous.evaluate`.
        data: See there.
        out: See there.
        overwrite: See there.
        data_root: See there.
        progress: Receives the progress. Default: none.
        on_message: Receives messages about automatic choices. Default: none.
        on_scores: See there.
        **options: See there.
    """
    worst = None if out is None else WorstImages()
    if out is not None:
        world.share(lambda: require_evaluation_folder(Path(out), overwrite=overwrite))
    [name] = name_models([model])
    options |= {"name": name, "on_image": worst, "on_scores": on_scores, "world": world}
    measured = measure(model, data, data_root, on_message, progress, **options)
    if out is not None and worst is not None:
        places = {row.key: place for place, row in enumerate(measured.scores.images)}
        worst.rows = [row for own in world.gather(worst.rows) for row in own]
        worst.rows.sort(key=lambda row: (row[0].miou, places[row[0].key]))
        del worst.rows[WORST_IMAGES:]
        if world.is_writer:
            save_evaluation(Path(out), measured, worst)
    return measured.scores


def require_evaluation_folder(out: Path, *, overwrite: bool) -> None:
    """Refuse a folder before the work, if its files could not be written or others would be lost.

    Args:
        out: The folder.
        overwrite: Whether to replace files that atrous did not write.
    Raises:
        UsageError: There cannot be such a folder, or a file would be lost.
        MachineError: There is no permission to write there, or no space.
    """
    require_folder(out)
    worst = [_name_worst(place) for place in range(1, WORST_IMAGES + 1)]
    files = [out / name for name in (SCORES, IMAGES, RELIABILITY, CURVE, *worst)]
    require_replaceable(files, is_own=_is_own(files[0]), overwrite=overwrite)


def _is_own(path: Path) -> bool:
    try:
        return bool({"confusion", "versions"} <= load_json(path).keys())
    except (OSError, ValueError, AttributeError):
        return False


def _name_worst(place: int) -> str:
    return f"{WORST}/{place}.png"


def save_evaluation(out: Path, measured: Measured, worst: WorstImages) -> None:
    """Write the files.

    Args:
        out: The folder.
        measured: What was counted, with its scores.
        worst: The worst images of the same pass.
    """
    scores = measured.scores
    drawn = [{"key": row.key, "miou": row.miou, "file": _name_worst(n)} for n, (row, _) in enumerate(worst.rows, 1)]
    content = {"model": measured.name, **scores.to_json(), "worst": drawn, **collect_provenance()}
    save_json(out / SCORES, content)  # first, so that a folder that was interrupted is known as one of ours
    save_text(out / IMAGES, _write_images(measured, scores.images))
    for place, (_, views) in enumerate(worst.rows, start=1):
        save_encoded(out / _name_worst(place), encode_png(views.draw()))
    if scores.calibration is None and scores.foreground is None:
        return
    from atrous.reports.plots import save_reliability_plot, save_threshold_plot  # matplotlib takes a second

    if scores.calibration is not None:
        save_reliability_plot(scores.calibration, out / RELIABILITY)
    if scores.foreground is not None:
        save_threshold_plot(scores.foreground, out / CURVE)


def _write_images(measured: Measured, images: Sequence[ImageScore]) -> str:
    """Return a row an image: its size, its own mIoU and pixel accuracy, and the IoU of each class, empty without it."""
    counts, names = measured.counts, [row.name for row in measured.scores.classes]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "group", "height", "width", "miou", "pixel_accuracy", *(f"IoU {name}" for name in names)])
    for index, row in zip(sorted(counts.images), images, strict=True):
        hits, true, given = counts.tallies[index]
        ious = [hit / union if union else None for hit, union in zip(hits, true + given - hits, strict=True)]
        accuracy = hits.sum() / true.sum() if true.any() else None
        ratios = ["" if ratio is None else f"{ratio:.6f}" for ratio in (row.miou, accuracy, *ious)]
        writer.writerow([row.key, counts.groups.get(index, ""), row.height, row.width, *ratios])
    return text.getvalue()
