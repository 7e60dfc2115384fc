"""From configuration to data sets, checked statistics, and the stream of batches."""

from __future__ import annotations

import inspect
import os
import typing
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from atrous.config.schema import DataConfig, TrainingConfig
from atrous.core.errors import ConfigError, DataError
from atrous.core.registry import describe_choices
from atrous.data import DATASETS
from atrous.data.augment.pipeline import Augmentation
from atrous.data.contracts import SegmentationDataset, Splits
from atrous.data.joined import JoinedDataset
from atrous.data.sampling import Batch, Stream, iter_batches
from atrous.data.statistics import MaskStatistics, Report, find_empty_classes, require_classes, scan_masks

_COMMON = ("classes", "ignore", "val_fraction", "split_seed", "train_split", "val_split")


def build_splits(config: DataConfig) -> Splits:
    """Find the data that a run trains on and is scored on.

    Raises:
        ConfigError: No source, an unknown option, or classes that the data set does not have.
        DataError: Nothing at the place, no known layout, or files that do not pair.
    """
    name, root = find_source(config)
    builder = DATASETS.load(name)
    common = {field: getattr(config, field) for field in _COMMON}
    splits: Splits = builder(root, **common, **_require_options(name, builder, config.options))
    return replace(splits, notes=(f"{name}: {root}", *splits.notes)) if name != "folder" and root else splits


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
    config: DataConfig, splits: Splits, progress: Report = None
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
    if config.classes is not None or find_source(config)[0] != "folder":
        require_classes(statistics, space, splits.train.name)
    empty = find_empty_classes(statistics, space)
    if empty:
        findings.append(f"{splits.train.name}: no pixel of {', '.join(empty)}, which val holds: it cannot be learnt")
    return statistics, findings


def build_stream(dataset: SegmentationDataset, training: TrainingConfig) -> Stream:
    """Build the endless stream of augmented samples.

    Raises:
        DataError: The data set is empty.
    """
    augmentation = Augmentation(training.crop, training.scale_range, training.flip, training.jitter)
    return Stream(dataset, augmentation, training.seed)


def build_loader(
    dataset: SegmentationDataset, training: TrainingConfig, *, start_place: int, num_places: int, workers: int
) -> Iterator[Batch]:
    """Build the batches of some places of the stream; see `iter_batches`."""
    stream = build_stream(dataset, training)
    return iter_batches(stream, batch=training.batch, start_place=start_place, num_places=num_places, workers=workers)


def find_source(config: DataConfig) -> tuple[str, Path | None]:
    """Say which entry of `DATASETS` reads the data, and where it lies; None where no place is known.

    Raises:
        ConfigError: No source is given, or `name=PATH` with an unknown name.
        DataError: Neither a registered name nor a folder.
    """
    source = config.source
    if not source:
        raise ConfigError("data.source: no data given", f"A folder, or one of {', '.join(DATASETS)}.")
    name, equals, place = source.partition("=")
    if equals and not Path(source).exists():
        DATASETS.require(name)
        return name, Path(place).expanduser()
    if source in DATASETS and source != "folder":
        parent = config.root or os.environ.get("ATROUS_DATA")
        return source, Path(parent).expanduser() / source if parent else None
    folder = Path(source).expanduser()
    if not folder.is_dir():
        is_file = folder.is_file()
        raise DataError(
            f"{source!r} is {'a file' if is_file else 'neither a folder nor a registered data set'}",
            "Give the folder that holds pictures and masks." if is_file else describe_choices(source, list(DATASETS)),
        )
    return "folder", folder


def _require_options(name: str, builder: Callable[..., Splits], options: dict[str, Any]) -> dict[str, Any]:
    """Check data.options against the builder's own parameters, so that they are written once."""
    allowed = [field for field in inspect.signature(builder).parameters if field not in ("root", *_COMMON)]
    types = typing.get_type_hints(builder)
    checked: dict[str, Any] = {}
    for key, value in options.items():
        if key not in allowed:
            raise ConfigError(f"data.options.{key}: {name} has no such option", describe_choices(key, allowed))
        try:
            checked[key] = TypeAdapter(types[key]).validate_python(value)
        except ValidationError as error:
            raise ConfigError(f"data.options.{key}: {value!r}: {error.errors()[0]['msg']}") from error
    return checked
