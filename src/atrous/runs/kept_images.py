"""The images of a run: which it was trained and scored on is kept in its folder, and found again in its data."""

from __future__ import annotations

import os
from dataclasses import astuple, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from atrous.config.load import load_config
from atrous.config.schema import DataConfig
from atrous.config.stages import list_stages
from atrous.core.data_source import FOLDER, PYTHON_SOURCE, DataSource, resolve_source
from atrous.core.errors import AtrousError, ConfigError, DataError, ModelFileError, UsageError
from atrous.core.files import load_json, save_json
from atrous.core.findings import shorten_list
from atrous.core.labels import LabelSpace
from atrous.core.records import MessageCallback, Note, send_message
from atrous.core.run_folder import RunFolder
from atrous.core.words import describe_count
from atrous.data.build import build_mask_reader, build_splits, find_splits
from atrous.data.contracts import NO_TEST, SegmentationDataset, Splits
from atrous.data.datasets.folder import SPLIT_NAMES
from atrous.data.division import read_ids
from atrous.data.inventory import Pair
from atrous.data.mask_reader import MaskReader
from atrous.data.pairs import PairDataset
from atrous.data.split import Grouping
from atrous.images.windows import Window
from atrous.runs.continuation import find_moved_data

SplitName = Literal["train", "val"]


def save_images(run: RunFolder, config: DataConfig, splits: Splits) -> None:
    """Write which files a run is trained and scored on, and their classes; nothing for data that are not files.

    Args:
        run: The run's folder, or that of a stage.
        config: The settings of its data.
        splits: Its data.
    """
    root = None if config.source == PYTHON_SOURCE else resolve_source(config.source, config.root).root
    if root is None or not (isinstance(splits.train, PairDataset) and isinstance(splits.val, PairDataset)):
        return
    record: dict[str, Any] = {"layout": splits.layout, "label_space": splits.train.label_space.to_json()}
    for name, dataset in (("train", splits.train), ("val", splits.val)):
        files = [
            (
                pair.key,
                os.path.relpath(pair.image, root),
                pair.mask and os.path.relpath(pair.mask, root),
                *(() if pair.window is None else astuple(pair.window)),
            )
            for pair in dataset.pairs
        ]
        record[name] = {"name": dataset.name, "files": files}
    save_json(run.images, record)


def rebuild_splits(
    folder: Path,
    *,
    needed: tuple[SplitName, ...] = ("val",),
    hint: str = "",
    data_root: str | Path | None = None,
) -> Splits:
    """Find the images that a run, or its last stage, was trained and scored on; images added since are ignored.

    Args:
        folder: The run's folder.
        needed: Splits of which no image may be missing; of the others those that are left are returned.
        hint: What to do if the data do not exist any more.
        data_root: Folder that holds the folder of the data, where they have moved.
    Raises:
        ConfigError: The configuration is missing or damaged.
        ModelFileError: The record of the images is damaged.
        UsageError: The data were Python objects.
        DataError: The data are not where they were.
    """
    run = RunFolder(folder)
    return find_images(run, _find_data(run, data_root), needed=needed, hint=hint)


def find_test_data(
    run: RunFolder,
    val: SegmentationDataset,
    data_root: str | Path | None = None,
    on_message: MessageCallback | None = None,
) -> PairDataset | None:
    """Find the labelled images of the test split of a run's data; None if the data have no such split.

    Args:
        run: The run's folder.
        val: What the run was validated on, with the classes that the images of the split have too.
        data_root: Folder that holds the folder of the data, where they have moved.
        on_message: Receives how many images of the split have no mask, if some have one.
    Raises:
        DataError: The data have such a split, and its images have no masks, or these no labelled pixel.
        ConfigError: See `rebuild_splits`.
    """
    data = _find_data(run, data_root)
    if not isinstance(val, PairDataset) or any(data.split.lists):  # which divide all images
        return None
    space = val.label_space
    if resolve_source(data.source, data.root).dataset == FOLDER:
        data = data.model_copy(update={"classes": dict(zip(space.ids, space.names, strict=True))})
    try:
        splits = find_splits(data, only_test=True)
    except DataError as error:
        if error.code == NO_TEST:
            return None
        raise
    found = splits.train
    if not isinstance(found, PairDataset):
        return None
    unlabelled = sum(len(each.images_without_mask) for each in splits.inventories if each.unlabelled != "background")
    if not len(found):
        raise DataError(f"{found.name} has no masks")
    if unlabelled:
        message = f"{found.name}: {describe_count(unlabelled, 'image')} without a mask not scored"
        send_message(on_message, Note("test-unlabelled", message))
    if not {*space.ids} & {*chain.from_iterable(read_ids(found.pairs, found.mask_reader))}:
        raise DataError(f"{found.name} has no labelled pixel")
    return replace(found, label_space=space)


def _find_data(run: RunFolder, data_root: str | Path | None) -> DataConfig:
    """Return the settings of the data of a run, or of its last stage, where they are now."""
    config = load_config(recipe=run.config).config
    if data_root is not None:
        config = find_moved_data(
            config.model_copy(update={"data": config.data.model_copy(update={"root": str(data_root)})})
        )
    data = list_stages(config)[-1].data
    if not data.source:
        raise ConfigError(f"{run.config} names no data", "Restore the file as the training wrote it, or give DATA.")
    return data


def find_images(run: RunFolder, data: DataConfig, *, needed: tuple[SplitName, ...], hint: str) -> Splits:
    """Find the images of a run in its data; the notes of the result say how many were added since, which are ignored.

    Args:
        run: The run's folder, or that of a stage.
        data: Where the data are now.
        needed: Splits of which no image may be missing.
        hint: What to do if the data do not exist any more.
    Raises:
        ModelFileError: The record of the images is damaged.
        UsageError: The data were Python objects.
        DataError: The data, or images of `needed`, are missing.
    """
    source = resolve_source(data.source, data.root)
    if source.dataset == PYTHON_SOURCE:
        raise UsageError(f"{run.path} was trained on Python objects, which its folder does not hold", hint)
    if source.root is None:
        return build_splits(data)  # drawn on demand by its settings alone
    if not source.root.is_dir():
        raise DataError(f"{run.path} was trained on {source.root}, which does not exist any more", hint)
    if not run.images.is_file():
        splits = build_splits(data)
        message = f"{run.path} has no {run.images.name}, so its images are chosen again as its settings say"
        return replace(splits, notes=(*splits.notes, Note("images-chosen-again", message)))
    grouping = Grouping(data.split.group, (data.split.train_name, data.split.val_name, *SPLIT_NAMES))
    kept = _load_images(run, source.root, build_mask_reader(data), grouping)
    datasets = {"train": kept.train, "val": kept.val}
    missing = [file for name in needed for file in _list_missing(datasets[name])]
    if missing:
        raise DataError(
            f"{describe_count(len(missing), 'file')} of {run.path} not found: {shorten_list(missing)}",
            f"Restore the files. {hint}".strip(),
        )
    train, val = (replace(each, pairs=_drop_missing(each)) for each in (kept.train, kept.val))
    return Splits(train, val, kept.layout, _describe_changes(data, source, kept))


@dataclass(frozen=True)
class _KeptImages:
    layout: str
    train: PairDataset
    val: PairDataset


def _load_images(run: RunFolder, root: Path, reader: MaskReader, grouping: Grouping) -> _KeptImages:
    try:
        record = load_json(run.images)
        space = LabelSpace.from_json(record["label_space"])
        datasets = {}
        for name in ("train", "val"):
            pairs = tuple(
                Pair(str(key), str(root / image), None if mask is None else str(root / mask), _read_window(*window))
                for key, image, mask, *window in record[name]["files"]
            )
            datasets[name] = PairDataset(str(record[name]["name"]), space, pairs, reader, grouping=grouping)
        return _KeptImages(str(record["layout"]), **datasets)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelFileError(
            f"{run.images}: cannot be read: {type(error).__name__}: {error}",
            "Restore the file as the training wrote it; without it the images are chosen again.",
        ) from error


def _read_window(*numbers: Any) -> Window | None:
    if not numbers:
        return None
    top, left, height, width, whole = numbers
    return Window(int(top), int(left), int(height), int(width), (int(whole[0]), int(whole[1])))


def _list_missing(dataset: PairDataset) -> list[str]:
    return [
        file
        for pair in dataset.pairs
        for file in (pair.image, pair.mask)
        if file is not None and not os.path.isfile(file)
    ]


def _drop_missing(dataset: PairDataset) -> tuple[Pair, ...]:
    return tuple(
        pair
        for pair in dataset.pairs
        if os.path.isfile(pair.image) and (pair.mask is None or os.path.isfile(pair.mask))
    )


def _describe_changes(data: DataConfig, source: DataSource, kept: _KeptImages) -> tuple[Note, ...]:
    """Say how many images have been added to the data, or why this cannot be told."""
    known = {pair.image for pair in (*kept.train.pairs, *kept.val.pairs)}
    if source.dataset == FOLDER:  # nothing is drawn and no mask is read where classes and splits are known
        space = kept.train.label_space
        classes = dict(zip(space.ids, space.names, strict=True))
        data = data.model_copy(update={"classes": classes})
    try:
        splits = build_splits(data, every_pair=not any(data.split.lists))  # what lists leave out is not new
    except AtrousError as error:
        reason = error.message.splitlines()[0]
        return (Note("data-changed", f"{source} has changed since the training: {reason}; its former images are used"),)
    found = {str(dataset.image_path(index)) for dataset in (splits.train, splits.val) for index in range(len(dataset))}
    if added := found - known:
        count = describe_count(len(added), "image")
        return (Note("images-added", f"{count} added to {source} since the training are not used"),)
    return ()
