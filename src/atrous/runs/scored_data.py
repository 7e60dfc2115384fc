"""The data that a model is scored on."""

from __future__ import annotations

import shlex
from pathlib import Path

from atrous.config.load import load_config
from atrous.core.errors import AtrousError, UsageError
from atrous.core.labels import LabelSpace
from atrous.core.records import MessageCallback, Note, send_message
from atrous.core.run_folder import RunFolder
from atrous.core.words import describe_count
from atrous.data.build import build_all_pairs
from atrous.data.contracts import SegmentationDataset
from atrous.data.digests import find_shared_files
from atrous.data.samples import require_dataset
from atrous.runs.kept_images import rebuild_splits


def find_scored_data(
    data: SegmentationDataset | str | Path | None,
    run: RunFolder | None,
    space: LabelSpace,
    root: str | Path | None,
    on_message: MessageCallback | None,
) -> SegmentationDataset:
    """Return the data that a model is scored on.

    Args:
        data: A data set or its source. Default: the validation data of the model's run.
        run: The run that the model came from, if known.
        space: The model's classes, which the data has.
        root: Folder in which registered data sets are looked for.
        on_message: Receives messages about automatic choices and findings.
    Raises:
        UsageError: No data is given, and the model's run is not known; or a Python data set has another form.
        DataError: Nothing at the place, no known layout, or files that do not pair.
    """
    if data is not None and not isinstance(data, str | Path):
        if not require_dataset(data):
            message = f"{data.name}: its samples change from call to call, and so will the score"
            send_message(on_message, Note("random-samples", message))
        return data
    if data is None:
        if run is None:
            raise UsageError("no data to score on", "Give DATA, or a run folder, which knows its own validation data.")
        return _find_validation_data(run, on_message)
    classes = dict(zip(space.ids, space.names, strict=True))
    given = {"data.source": str(data), "data.root": root, "data.classes": classes, "data.ignore": space.ignored_ids}
    dataset = build_all_pairs(load_config(options=given).config.data, on_message)
    if run is not None:
        _warn_of_seen_images(run.path, dataset, on_message)
    return dataset


def _find_validation_data(run: RunFolder, on_message: MessageCallback | None) -> SegmentationDataset:
    command = f"atrous eval {shlex.quote(str(run.path))} DATA"
    splits = rebuild_splits(run.path, hint=f"Give DATA: {command}; in Python: atrous.evaluate(run, val).")
    for note in splits.notes:
        send_message(on_message, note)
    return splits.val


def _warn_of_seen_images(folder: Path, dataset: SegmentationDataset, on_message: MessageCallback | None) -> None:
    try:
        shared = len(find_shared_files(dataset, rebuild_splits(folder, needed=()).train))
    except AtrousError:
        message = "the run's own data are not here, so it is not known whether it was trained on these images"
        send_message(on_message, Note("training-images-unknown", message))
        return
    if shared:
        message = f"warning: the model was trained on {shared} of {describe_count(len(dataset), 'image')}"
        send_message(on_message, Note("trained-on", message))
