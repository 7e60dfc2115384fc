"""Models compared on the same data: scored one after another, compared, and the images that differ most drawn."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from atrous.core.arguments import refuse_wrong_types
from atrous.core.comparison import Comparison
from atrous.core.errors import UsageError
from atrous.core.files import load_json, save_json
from atrous.core.output_folder import require_folder, require_replaceable
from atrous.core.provenance import collect_provenance
from atrous.core.records import MessageCallback, ProgressCallback
from atrous.data.contracts import SegmentationDataset
from atrous.display.progress import open_call
from atrous.images.encode import encode_png, save_encoded
from atrous.runs.scored_model import Loadable, ScoresCallback, measure, name_models
from atrous.scoring.compare import DIFFERING_IMAGES, Measured, compare_models, iter_drawings

if TYPE_CHECKING:
    from atrous.training.world import World

FILE_NAME, IMAGES = "comparison.json", "differing"
"""The file of a comparison, and the folder beside it with the images that differ most."""


@refuse_wrong_types
def compare(
    models: Sequence[Loadable],
    data: SegmentationDataset | str | Path,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    data_root: str | Path | None = None,
    progress: ProgressCallback | bool | None = None,
    on_message: MessageCallback | None = None,
    on_scores: ScoresCallback | None = None,
    on_result: Callable[[Comparison], None] | None = None,
    **options: Any,
) -> Comparison:
    """Score several models on the same images and say which is better, and how sure that is.

    Each is compared with the first one. Runs that differ in their seed alone are one side, whose mean score counts.

    Args:
        models: Loaded models, runs, or what `load` opens; at least two.
        data: What to score on, all its pairs.
        out: Folder for comparison.json, and in differing/ the images that differ most: image, truth, the first model,
            the other one. Default: nothing is written.
        overwrite: Whether to replace a comparison.json that atrous did not write.
        data_root: Folder in which registered data sets are looked for.
        progress: Receives the progress. Default: a bar on a terminal or in a notebook, a line now and then elsewhere;
            False shows nothing.
        on_message: Receives messages about automatic choices. Default: they are shown with the progress.
        on_scores: Receives the name and the scores of each model as soon as they are known.
        on_result: Receives the comparison before files are written.
        options: The other keywords of `atrous.evaluate`.
    Raises:
        UsageError: There are fewer than two models, one is given twice, or a file in `out` would be lost.
        ModelFileError: A model cannot be opened.
        ConfigError: An option is out of its range, or a model cannot follow it.
        DataError: A file cannot be read, or the models were scored on other pixels.
    """
    from atrous.training.world import World

    with open_call(progress, on_message) as display:
        places: dict[str, Any] = {"out": out, "overwrite": overwrite, "data_root": data_root}
        shown: dict[str, Any] = {"progress": display.progress, "on_message": display.on_message}
        receivers: dict[str, Any] = {"on_scores": on_scores, "on_result": on_result}
        return compare_together(World.alone(), models, data, **places, **shown, **receivers, **options)


def compare_together(
    world: World,
    models: Sequence[Loadable],
    data: SegmentationDataset | str | Path,
    *,
    out: str | Path | None,
    overwrite: bool,
    data_root: str | Path | None,
    progress: ProgressCallback | None,
    on_message: MessageCallback | None,
    on_scores: ScoresCallback | None,
    on_result: Callable[[Comparison], None] | None,
    **options: Any,
) -> Comparison:
    """Compare models as `compare` does, in processes that share out the images; one of them writes.

    Args:
        world: The processes; all of them get the comparison.
        models: See `compare`.
        data: See there.
        out: See there.
        overwrite: See there.
        data_root: See there.
        progress: Receives the progress. Default: none.
        on_message: Receives messages about automatic choices. Default: none.
        on_scores: See there.
        on_result: See there.
        **options: See there.
    Raises:
        UsageError: There are fewer than two models, one is given twice, or a file in `out` would be lost.
    """
    names = name_models(models)
    if len(models) < 2 or len({*names}) < len(models):
        raise UsageError(f"{len({*names})} different models to compare: {', '.join(names)}", "Give at least two.")
    if out is not None:
        numbers = itertools.product(range(2, len(models) + 1), range(1, DIFFERING_IMAGES + 1))
        files = [Path(out) / FILE_NAME, *(Path(out) / _name_drawing(*each) for each in numbers)]
        world.share(lambda: require_folder(Path(out)))
        require_replaceable(files, is_own=_is_own(files[0]), overwrite=overwrite)
    measured: list[Measured] = []
    options |= {"on_scores": on_scores, "world": world}
    for name, model in zip(names, models, strict=True):
        measured.append(measure(model, data, data_root, on_message, progress, name=name, **options))
    found = compare_models(measured)
    if on_result is not None:
        on_result(found)
    if out is not None and world.is_writer:
        _save(Path(out), found, measured)
    return found


def _is_own(path: Path) -> bool:
    try:
        return "comparison" in load_json(path)
    except (OSError, ValueError, TypeError):
        return False


def _name_drawing(side: int, place: int) -> str:
    return f"{IMAGES}/{side}-{place}.png"


def _save(folder: Path, found: Comparison, measured: Sequence[Measured]) -> None:
    content = found.to_json()
    # First, so that a folder whose drawings were interrupted is known as one of ours.
    save_json(folder / FILE_NAME, {**content, **collect_provenance()})
    for number, difference in enumerate(found.differences, start=2):
        for place, (_, drawing) in enumerate(iter_drawings(difference, measured), start=1):
            save_encoded(folder / _name_drawing(number, place), encode_png(drawing))
            row = content["comparison"]["differences"][number - 2]["images"][place - 1]
            row["file"] = _name_drawing(number, place)
    save_json(folder / FILE_NAME, {**content, **collect_provenance()})
