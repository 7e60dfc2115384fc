"""From configuration to data sets, their statistics, and the stream of batches."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from atrous.config.options import read_options
from atrous.config.schema import DataConfig, TrainingConfig
from atrous.core.data_source import DATASETS, FOLDER, PYTHON_SOURCE, DataSource, list_registered, require_source
from atrous.core.errors import ConfigError, DataError, UsageError
from atrous.core.findings import Finding, describe_count, require_no_errors, shorten_list
from atrous.core.labels import LabelSpace
from atrous.core.records import Note, ProgressCallback
from atrous.core.registry import describe_choices
from atrous.data.augment.pipeline import Augmentation
from atrous.data.checks.survey import Survey, run_checks
from atrous.data.contracts import SegmentationDataset, Splits
from atrous.data.facts import read_facts
from atrous.data.facts_cache import FactsCache
from atrous.data.joined import JoinedDataset
from atrous.data.samples import read_sample
from atrous.data.sampling import Batch, Stream, iter_batches, repeat_images
from atrous.data.statistics import MaskStatistics, compute_statistics

_COMMON = ("classes", "ignore", "val_fraction", "split_seed", "train_split", "val_split")


def build_splits(config: DataConfig) -> Splits:
    """Find the data that a run trains on and is scored on.

    Raises:
        ConfigError: No source, an unknown option, or classes that the data set does not have.
        DataError: The folder does not exist or has an unknown layout, or files do not pair.
    """
    source = find_source(config)
    builder = DATASETS.load(source.dataset)
    common = {field: getattr(config, field) for field in _COMMON}
    options = read_options(builder, config.options, "data.options", reserved=_COMMON)
    splits: Splits = builder(source.root, **common, **options)
    if source.dataset == FOLDER or source.root is None:
        return splits
    return replace(splits, notes=(Note("data-folder", f"{source.dataset}: {source.root}"), *splits.notes))


def read_splits(pair: Any) -> Splits:
    """Take a pair of Python data sets, to train on and to score on, as the data of a run.

    Args:
        pair: `Splits`, or two data sets; the first sample of each is read.
    Raises:
        UsageError: Not two objects with the members of `SegmentationDataset`, or samples of another form.
        DataError: One of them is empty, two samples have one key, or their classes differ.
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
    for dataset in (splits.train, splits.val):
        _require_dataset(dataset)
    if splits.train.label_space != splits.val.label_space:
        raise DataError("the two data sets differ in their label spaces", "Give both the same classes and ids.")
    return splits


def _require_dataset(dataset: SegmentationDataset) -> None:
    wanted = ["__len__", *(name for name in vars(SegmentationDataset) if not name.startswith("_"))]
    missing = [name for name in wanted if not hasattr(dataset, name)]
    if missing:
        raise UsageError(
            f"data: {type(dataset).__name__} has no {', '.join(missing)}",
            "atrous.data.contracts.SegmentationDataset describes each of them.",
        )
    if len(dataset) == 0:
        raise DataError(f"{dataset.name}: no images", "Give at least one to train on and one to score.")
    keys = [dataset.key(index) for index in range(len(dataset))]
    doubled = [key for key, count in Counter(keys).items() if count > 1]
    if doubled:
        raise DataError(
            f"{dataset.name}: {describe_count(len(doubled), 'key')} of several samples: {shorten_list(doubled)}",
            "Give each sample a key of its own.",
        )
    read_sample(dataset, 0)


def build_all_pairs(config: DataConfig) -> SegmentationDataset:
    """Find every pair of some data, in whatever splits.

    Raises:
        ConfigError: As `build_splits`.
        DataError: As `build_splits`.
    """
    splits = build_splits(config.model_copy(update={"val_fraction": 0.0}))
    name = splits.train.name.rsplit(" ", 1)[0]
    return JoinedDataset(f"{name}, every pair", (splits.train, splits.val))


def check_training_data(
    config: DataConfig, splits: Splits, progress: ProgressCallback | None = None
) -> tuple[MaskStatistics, list[Finding]]:
    """Decode all images and masks, and run every check, before the first step.

    Args:
        config: The settings of the data.
        splits: The data.
        progress: Receives the progress.
    Returns:
        What the training masks hold, and the findings of the checks: warnings and notes.
    Raises:
        DataError: There are findings of severity error; all of them in one message.
        UsageError: A Python data set returns masks of another form than its contract says.
    """
    with FactsCache() as cache:
        train, val = (read_facts(dataset, cache, progress) for dataset in (splits.train, splits.val))
    is_named = config.classes is not None or config.source == PYTHON_SOURCE or find_source(config).dataset != FOLDER
    findings = run_checks(Survey(train=train, val=val, are_classes_named=is_named))
    require_no_errors(findings)
    return compute_statistics(train), findings


def compute_fingerprint(splits: Splits, statistics: MaskStatistics) -> str:
    """Return a hash of the data of a run: keys, classes, and the pixels of each class in training.

    Args:
        splits: The data.
        statistics: What the training masks hold.
    """
    space = splits.train.label_space
    content = {
        "train": [splits.train.key(index) for index in range(len(splits.train))],
        "val": [splits.val.key(index) for index in range(len(splits.val))],
        "classes": [space.names, space.ids],
        "pixels": statistics.pixels.tolist(),
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def list_pass(training: TrainingConfig, space: LabelSpace, statistics: MaskStatistics) -> np.ndarray:
    """List the images of one pass over the training data; those that hold a hard class are repeated.

    Args:
        training: The settings, which name the hard classes.
        space: The classes.
        statistics: What the training masks hold.
    Returns:
        Indices of images, ascending, (N,).
    Raises:
        ConfigError: The data do not have a class that is named as hard.
    """
    names = () if isinstance(training.hard_classes, str) else training.hard_classes
    for name in names:
        if name not in space.names:
            raise ConfigError(
                f"training.hard_classes: the data have no class {name!r}", describe_choices(name, list(space.names))
            )
    return repeat_images(statistics.presence[:, [space.index_of(name) for name in names]], training.hard_repeats)


def build_stream(dataset: SegmentationDataset, training: TrainingConfig, one_pass: np.ndarray | None = None) -> Stream:
    """Build the endless stream of augmented samples.

    Args:
        dataset: What is sampled.
        training: Crop, augmentation and seed.
        one_pass: The images of one pass as `list_pass` lists them, (N,). Default: each image once.
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
    """Build the batches of a part of the stream; see `iter_batches`.

    Args:
        dataset: What is sampled.
        training: Crop, augmentation, seed and batch size.
        one_pass: The images of one pass as `list_pass` lists them, (N,). Default: each image once.
        start_place: First position in the stream, from 0.
        num_places: Number of positions, a multiple of the batch size.
        workers: Processes that read and augment; 0 reads in this one.
    """
    stream = build_stream(dataset, training, one_pass)
    return iter_batches(stream, batch=training.batch, start_place=start_place, num_places=num_places, workers=workers)


def find_source(config: DataConfig) -> DataSource:
    """Resolve the source of the data.

    Raises:
        ConfigError: No source is given, or `name=PATH` with an unknown name.
        UsageError: The data were Python objects.
        DataError: Neither a registered name nor a folder.
    """
    if not config.source:
        raise ConfigError("data.source: no data given", f"Give a folder, or one of {', '.join(list_registered())}.")
    return require_source(config.source, config.root)
