"""From configuration to data sets, checked statistics, and the stream of batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from atrous.config.options import read_options
from atrous.config.schema import DataConfig, TrainingConfig
from atrous.core.data_source import DATASETS, FOLDER, DataSource, resolve_source
from atrous.core.errors import ConfigError, DataError, UsageError
from atrous.core.labels import LabelSpace
from atrous.core.records import ProgressCallback
from atrous.core.registry import describe_choices
from atrous.data.augment.pipeline import Augmentation
from atrous.data.contracts import SegmentationDataset, Splits
from atrous.data.joined import JoinedDataset
from atrous.data.sampling import Batch, Stream, iter_batches, repeat_images
from atrous.data.statistics import MaskStatistics, find_empty_classes, require_classes, scan_masks

PYTHON_SOURCE = "python"
"""What stands as the source of data that were given as objects."""
_COMMON = ("classes", "ignore", "val_fraction", "split_seed", "train_split", "val_split")


def build_splits(config: DataConfig) -> Splits:
    """Find the data that a run trains on and is scored on.

    Raises:
        ConfigError: No source, an unknown option, or classes that the data set does not have.
        DataError: Nothing at the place, no known layout, or files that do not pair.
    """
    source = find_source(config)
    builder = DATASETS.load(source.dataset)
    common = {field: getattr(config, field) for field in _COMMON}
    options = read_options(builder, config.options, "data.options", reserved=_COMMON)
    splits: Splits = builder(source.root, **common, **options)
    if source.dataset == FOLDER or source.root is None:
        return splits
    return replace(splits, notes=(f"{source.dataset}: {source.root}", *splits.notes))


def read_splits(pair: Any) -> Splits:
    """Take a pair of Python data sets, to train on and to score on, as the data of a run.

    Raises:
        UsageError: Not two objects that have what `SegmentationDataset` asks for.
        DataError: One of them is empty, or their classes differ.
    """
    if isinstance(pair, Splits):
        splits = pair
    else:
        try:
            train, val = pair
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"data: got {type(pair).__name__}", "Give a name, a folder, or a pair of data sets (train, val)."
            ) from error
        splits = Splits(train, val, layout="Python data sets")
    wanted = ["__len__", *(name for name in vars(SegmentationDataset) if not name.startswith("_"))]
    for dataset in (splits.train, splits.val):
        missing = [name for name in wanted if not hasattr(dataset, name)]
        if missing:
            raise UsageError(
                f"data: {type(dataset).__name__} has no {', '.join(missing)}",
                "atrous.data.contracts.SegmentationDataset says what each of them is.",
            )
        if len(dataset) == 0:
            raise DataError(f"{dataset.name}: no images", "Give at least one to train on and one to score.")
    if splits.train.label_space != splits.val.label_space:
        raise DataError("the two data sets differ in their label spaces", "Give both the same classes and ids.")
    return splits


def build_all_pairs(config: DataConfig) -> SegmentationDataset:
    """Find every pair of some data, whatever its splits; both splits are joined where it has them.

    Raises:
        ConfigError: As `build_splits`.
        DataError: As `build_splits`.
    """
    splits = build_splits(config.model_copy(update={"val_fraction": 0.0}))
    name = splits.train.name.rsplit(" ", 1)[0]
    return JoinedDataset(f"{name}, every pair", (splits.train, splits.val))


def check_training_data(
    config: DataConfig, splits: Splits, progress: ProgressCallback | None = None
) -> tuple[MaskStatistics, list[str]]:
    """Read all masks before the first step.

    Returns:
        What the training masks hold, and what a person should know.

    Raises:
        DataError: A mask that cannot be used in train or val, or a named class without a pixel in train.
    """
    statistics = scan_masks(splits.train, progress)
    findings = [*statistics.findings, *scan_masks(splits.val, progress).findings]
    space = splits.train.label_space
    if config.classes is not None or config.source == PYTHON_SOURCE or find_source(config).dataset != FOLDER:
        require_classes(statistics, space, splits.train.name)
    empty = find_empty_classes(statistics, space)
    if empty:
        findings.append(f"{splits.train.name}: no pixel of {', '.join(empty)}, which val holds: it cannot be learnt")
    return statistics, findings


def compute_fingerprint(splits: Splits, statistics: MaskStatistics) -> str:
    """Return a hash of what a run trains on and is scored on: keys, classes, and each class's pixels in training."""
    space = splits.train.label_space
    content = {
        "train": [splits.train.key(index) for index in range(len(splits.train))],
        "val": [splits.val.key(index) for index in range(len(splits.val))],
        "classes": [space.names, space.ids],
        "pixels": statistics.pixels.tolist(),
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def list_pass(training: TrainingConfig, space: LabelSpace, statistics: MaskStatistics) -> np.ndarray:
    """List the images of one pass over the training data by index; those that hold a hard class stand repeatedly.

    Raises:
        ConfigError: A hard class that the data do not have.
    """
    names = () if isinstance(training.hard_classes, str) else training.hard_classes
    for name in names:
        if name not in space.names:
            raise ConfigError(
                f"training.hard_classes: the data have no class {name!r}", describe_choices(name, list(space.names))
            )
    return repeat_images(statistics.presence[:, [space.index_of(name) for name in names]], training.hard_repeats)


def build_stream(dataset: SegmentationDataset, training: TrainingConfig, one_pass: np.ndarray | None = None) -> Stream:
    """Build the endless stream of augmented samples, of passes as `list_pass` lists them.

    Raises:
        DataError: The data set is empty.
    """
    augmentation = Augmentation(training.crop, training.scale_range, training.flip, training.jitter)
    return Stream(dataset, augmentation, training.seed, one_pass)


def build_loader(
    dataset: SegmentationDataset,
    training: TrainingConfig,
    one_pass: np.ndarray | None = None,
    *,
    start_place: int,
    num_places: int,
    workers: int,
) -> Iterator[Batch]:
    """Build the batches of some places of the stream; see `iter_batches`."""
    stream = build_stream(dataset, training, one_pass)
    return iter_batches(stream, batch=training.batch, start_place=start_place, num_places=num_places, workers=workers)


def find_source(config: DataConfig) -> DataSource:
    """Resolve the source of the data.

    Raises:
        ConfigError: No source is given, or `name=PATH` with an unknown name.
        UsageError: The data were Python objects.
        DataError: Neither a registered name nor a folder.
    """
    if config.source == PYTHON_SOURCE:
        raise UsageError(
            "the data of this run were Python objects, which its settings cannot hold",
            "Name a folder or a data set, or give the objects to atrous.train and atrous.evaluate.",
        )
    if not config.source:
        raise ConfigError("data.source: no data given", f"Give a folder, or one of {', '.join(DATASETS)}.")
    source = resolve_source(config.source, config.root)
    DATASETS.require(source.dataset)
    if source.dataset == FOLDER and not (source.root and source.root.is_dir()):
        is_file = source.root is not None and source.root.is_file()
        raise DataError(
            f"{config.source!r} is {'a file' if is_file else 'neither a folder nor a registered data set'}",
            "Give the folder that holds images and masks."
            if is_file
            else describe_choices(config.source, list(DATASETS)),
        )
    return source
