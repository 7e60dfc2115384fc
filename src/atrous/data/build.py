"""From configuration to data sets, their statistics, and the stream of batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from atrous.config.options import read_options
from atrous.config.schema import DataConfig, TrainingConfig, parse_colour
from atrous.core.data_source import DATASETS, FOLDER, PYTHON_SOURCE, DataSource, list_registered, require_source
from atrous.core.errors import ConfigError, DataError, UsageError
from atrous.core.findings import Finding, require_no_errors
from atrous.core.inputs import InputSpec
from atrous.core.labels import LabelSpace
from atrous.core.records import MessageCallback, Note, ProgressCallback, send_message
from atrous.core.registry import describe_choices
from atrous.core.words import spell_path
from atrous.data.adapter import AdaptedDataset
from atrous.data.augment.geometric import PADDING_COLOUR
from atrous.data.augment.pipeline import Augmentation
from atrous.data.checks.survey import Survey, run_checks
from atrous.data.class_tables import ClassTable, Colour, read_class_table
from atrous.data.contracts import DataRequest, SegmentationDataset, Splits
from atrous.data.digests import add_digests
from atrous.data.facts import DatasetFacts, read_facts
from atrous.data.facts_cache import FactsCache
from atrous.data.joined import JoinedDataset
from atrous.data.mask_reader import MaskReader
from atrous.data.pairs import PairDataset
from atrous.data.rare import plan_rare_crops
from atrous.data.samples import find_form, require_dataset
from atrous.data.statistics import MaskStatistics, compute_statistics

if TYPE_CHECKING:  # checks of data need no PyTorch
    from atrous.data.sampling import Batch, Stream

_REQUESTED = (
    "split",
    "exclude",
    "images",
    "masks",
    "pairs",
    "unlabelled",
    "channels",
    "value_range",
    "page",
)
"""Settings of the data that every data set has; its own are in `data.options`."""
_OF_PLACES = ("images", "masks", "pairs", "unlabelled")
"""Settings that say where the files of a folder are; registered data sets have them in known places."""
_OF_FILES = (*_OF_PLACES, "exclude", "label_map", "colours", "channels", "value_range", "page")
"""Settings that say how files are found and read."""


def build_splits(config: DataConfig, *, every_pair: bool = False, progress: ProgressCallback | None = None) -> Splits:
    """Find the data that a run trains on and is scored on.

    Args:
        config: The settings of the data.
        every_pair: See `DataRequest`.
        progress: See `DataRequest`.
    Raises:
        ConfigError: No source, an unknown option, or classes that the data set does not have.
        DataError: The folder does not exist or has an unknown layout, or files do not pair.
    """
    splits = find_splits(config, every_pair=every_pair, progress=progress)
    findings = run_checks(_begin_survey(config, splits))
    require_no_errors(findings)
    return replace(splits, notes=(*splits.notes, *(finding.to_note() for finding in findings)))


def find_splits(
    config: DataConfig, *, every_pair: bool = False, only_test: bool = False, progress: ProgressCallback | None = None
) -> Splits:
    """Find the data as `build_splits` does, with whatever their checks will find.

    Args:
        config: The settings of the data.
        every_pair: See `DataRequest`.
        only_test: See `DataRequest`; data without files have no test split.
        progress: See `DataRequest`.
    Raises:
        ConfigError: No source, an unknown option, or classes that the data set does not have.
        DataError: The folder does not exist or has an unknown layout.
    """
    source = find_source(config)
    builder = DATASETS.load(source.dataset)
    if source.root is None:
        _refuse_settings(config, _OF_FILES, f"the data set {source.dataset!r} has no files")
    elif source.dataset != FOLDER:
        _refuse_settings(config, _OF_PLACES, f"the files of the data set {source.dataset!r} are in known places")
    request = DataRequest(
        **{name: getattr(config, name) for name in _REQUESTED},
        classes=_read_table(config).names
        if config.classes is None and isinstance(config.colours, str)
        else config.class_names,
        ignore=config.ignored_values,
        mask_reader=build_mask_reader(config),
        every_pair=every_pair,
        only_test=only_test,
        progress=progress,
    )
    options = read_options(builder, config.options, "data.options")
    splits: Splits = builder(source.root, request, **options)
    if isinstance(splits.train, PairDataset) and isinstance(splits.val, PairDataset):
        train, val = (
            replace(each, label_space=each.label_space.paint(config.class_colours))
            for each in (splits.train, splits.val)
        )
        splits = replace(splits, train=train, val=val)
    elif config.class_colours:
        raise ConfigError(
            f"data.classes: the data set {source.dataset!r} has colours of its own", "Write the names alone."
        )
    if source.dataset == FOLDER or source.root is None:
        return splits
    return replace(splits, notes=(Note("data-folder", f"{source.dataset}: {source.root}"), *splits.notes))


def build_mask_reader(config: DataConfig) -> MaskReader:
    """Build what reads the masks of some data.

    Raises:
        DataError: The file with the colours cannot be read.
    """
    if config.colours is None:
        return MaskReader(config.label_map)
    if isinstance(config.colours, str):
        table: Mapping[Colour, int] = _read_table(config).colours
    else:
        table = {parse_colour(text): number for text, number in config.colours.items()}
    return MaskReader(colours=table)


def _read_table(config: DataConfig) -> ClassTable:
    root = find_source(config).root
    return read_class_table((root or Path()) / str(config.colours))


def _refuse_settings(config: DataConfig, names: Sequence[str], reason: str) -> None:
    default = DataConfig()
    for name in names:
        if getattr(config, name) != getattr(default, name):
            raise ConfigError(f"data.{name}: {reason}", "Remove this setting.")


def read_splits(pair: Any) -> Splits:
    """Take a pair of Python data sets, to train on and to score on, as the data of a run.

    Args:
        pair: `Splits`, or two data sets; a few samples of each are read, twice.
    Raises:
        UsageError: Not two objects with the members of `SegmentationDataset`, samples of another form, one data set for
            both, or validation data that change at random.
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
        train, val = (
            replace(dataset, name=f"{dataset.name} {split}") if isinstance(dataset, AdaptedDataset) else dataset
            for dataset, split in ((train, "train"), (val, "val"))
        )
        splits = Splits(train, val, layout="Python data sets")
    is_repeatable, is_val_repeatable = require_dataset(splits.train), require_dataset(splits.val)
    if _is_same(splits.train, splits.val):
        raise UsageError("data: train and val are the same data set", "Give images to score that are not trained on.")
    if not is_val_repeatable:
        raise UsageError(
            f"{splits.val.name}: its samples change from call to call, so its scores would not be comparable",
            "Leave random changes out of the validation data.",
        )
    if splits.train.label_space != splits.val.label_space:
        raise DataError("the two data sets differ in their label spaces", "Give both the same classes and ids.")
    if is_repeatable:
        return splits
    message = f"{splits.train.name}: its samples change from call to call, so no two trainings will be the same"
    return replace(splits, is_repeatable=False, notes=(*splits.notes, Note("random-samples", message)))


def _is_same(train: SegmentationDataset, val: SegmentationDataset) -> bool:
    if isinstance(train, AdaptedDataset) and isinstance(val, AdaptedDataset):
        return train.dataset is val.dataset
    return train is val


def build_all_pairs(config: DataConfig, on_message: MessageCallback | None = None) -> SegmentationDataset:
    """Find every pair of some data, in whatever splits they have.

    Args:
        config: The settings of the data.
        on_message: Receives what was assumed or skipped.
    Raises:
        ConfigError: As `build_splits`.
        DataError: As `build_splits`, but that one split is enough.
    """
    splits = build_splits(config, every_pair=True)
    for note in splits.notes:
        send_message(on_message, note)
    if not len(splits.val):
        return splits.train
    name = splits.train.name.rsplit(" ", 1)[0]
    return JoinedDataset(f"{name}, every pair", (splits.train, splits.val))


def build_scored_pairs(config: DataConfig, on_message: MessageCallback | None = None) -> SegmentationDataset:
    """Find the pairs of some data that a model is scored on: of a registered data set its val, of a folder all.

    Scores that are published of a registered data set are those of its own division. A folder is divided for a
    training of its own, which another model has not seen.

    Args:
        config: The settings of the data.
        on_message: Receives what was assumed or skipped.
    Raises:
        ConfigError: As `build_splits`.
        DataError: As `build_all_pairs`.
    """
    if find_source(config).dataset == FOLDER:
        return build_all_pairs(config, on_message)
    splits = build_splits(config, every_pair=not config.split.is_divided)  # a division of the data's own holds
    for note in splits.notes:
        send_message(on_message, note)
    return splits.val if len(splits.val) else splits.train


def check_training_data(
    config: DataConfig, splits: Splits, progress: ProgressCallback | None = None, *, is_weighted: bool = False
) -> tuple[MaskStatistics, list[Finding]]:
    """Decode all images and masks, and run every check, before the first step.

    Args:
        config: The settings of the data.
        splits: The data.
        progress: Receives the progress.
        is_weighted: Whether the training weighs rare classes higher.
    Returns:
        What the training masks hold, and the findings of the checks: warnings and notes.
    Raises:
        DataError: There are findings of severity error; all of them in one message.
        UsageError: A Python data set returns masks of another form than its contract says.
    """
    survey = survey_data(config, splits, progress)
    # The findings of inventories have been reported by `build_splits`.
    findings = run_checks(replace(survey, inventories=(), is_weighted=is_weighted))
    require_no_errors(findings)
    train, val = survey.splits
    return replace(compute_statistics(train), contents_sha256=_hash_contents(train, val)), findings


def survey_data(config: DataConfig, splits: Splits, progress: ProgressCallback | None = None) -> Survey:
    """Decode all images and masks that are not known from an earlier command.

    Args:
        config: The settings of the data.
        splits: The data.
        progress: Receives the progress.
    Raises:
        UsageError: A Python data set returns masks of another form than its contract says.
    """
    with FactsCache() as cache:
        train, val = (read_facts(dataset, cache, progress) for dataset in (splits.train, splits.val))
    train, val = add_digests(splits, train, val)
    return replace(_begin_survey(config, splits), train=train, val=val)


def _begin_survey(config: DataConfig, splits: Splits) -> Survey:
    """Return what is known of some data before a file is read."""
    source = None if config.source == PYTHON_SOURCE else find_source(config)
    return Survey(
        splits.inventories,
        are_classes_named=config.classes is not None or source is None or source.dataset != FOLDER,
        root=None if source is None else source.root,
        source="DATA" if source is None else spell_path(str(source)),
        excluded=config.exclude,
        split=config.split,
        is_ignore_given=config.ignore is not None or source is None or source.dataset != FOLDER,
        is_range_given=config.value_range is not None,
        are_channels_given=config.channels is not None,
    )


def _hash_contents(*parts: DatasetFacts) -> str:
    digests = [[(item.digest, item.mask and item.mask.digest) for item in facts.items] for facts in parts]
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def compute_fingerprint(splits: Splits, statistics: MaskStatistics) -> str:
    """Return a hash of the data of a run: keys, classes, and the content of all files and of masks without one.

    Args:
        splits: The data.
        statistics: What `check_training_data` found.
    """
    space = splits.train.label_space
    content = {
        "train": [splits.train.key(index) for index in range(len(splits.train))],
        "val": [splits.val.key(index) for index in range(len(splits.val))],
        "classes": [space.names, space.ids],
        "contents": statistics.contents_sha256 if splits.is_repeatable else None,
    }
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def list_pass(training: TrainingConfig, space: LabelSpace, statistics: MaskStatistics) -> np.ndarray:
    """List the images of one pass over the training data; those that hold a hard class are repeated.

    A block of a raster is listed as often as crops fit into it.

    Args:
        training: The settings, which name the hard classes.
        space: The classes.
        statistics: What the training masks hold.
    Returns:
        Indices of images, ascending, (N,).
    Raises:
        ConfigError: The data do not have a class that is named as hard.
    """
    from atrous.data.sampling import repeat_images

    names = () if isinstance(training.hard_classes, str) else training.hard_classes
    for name in names:
        if name not in space.names:
            raise ConfigError(
                f"training.hard_classes: the data have no class {name!r}", describe_choices(name, list(space.names))
            )
    once = repeat_images(statistics.presence[:, [space.index_of(name) for name in names]], training.hard_repeats)
    if statistics.block_pixels is None:
        return once
    fitting = np.maximum(statistics.block_pixels // training.crop**2, 1)
    return np.repeat(once, fitting[once])


def require_augmentation(dataset: SegmentationDataset, training: TrainingConfig) -> None:
    """Refuse an augmentation that the images of a data set cannot have.

    Args:
        dataset: The training data.
        training: How they are augmented.
    Raises:
        ConfigError: Colours are to be jittered, and the images are not RGB of 8 bits.
    """
    form = find_form(dataset)
    if training.jitter > 0.0 and not form.is_photo:
        raise ConfigError(
            f"training.jitter: changes colours of RGB images of 8 bits, and these are {form.describe()}",
            "Set training.jitter to 0.",
        )


def build_stream(
    dataset: SegmentationDataset,
    training: TrainingConfig,
    one_pass: np.ndarray | None = None,
    *,
    input_spec: InputSpec | None = None,
    statistics: MaskStatistics | None = None,
    cache_bytes: int = 0,
) -> Stream:
    """Build the endless stream of augmented samples.

    Args:
        dataset: What is sampled.
        training: Crop, augmentation and seed.
        one_pass: The images of one pass as `list_pass` lists them, (N,). Default: each image once.
        input_spec: The images of the network; beyond the border of one that is no photo is its mean. Default: photos.
        statistics: What the masks hold, for crops that are centred on rare classes. Default: none are.
        cache_bytes: Memory for decoded images.
    Raises:
        ConfigError: See `require_augmentation`.
        DataError: The data set is empty.
    """
    from atrous.data.sampling import Stream

    require_augmentation(dataset, training)
    padding = PADDING_COLOUR if input_spec is None or input_spec.form.is_photo else input_spec.stored_mean
    augmentation = Augmentation(
        training.crop,
        training.scale_range,
        training.flip,
        training.jitter,
        flip_vertical=training.flip_vertical,
        quarter_turns=training.quarter_turns,
        rotation=training.rotation,
        padding=padding,
    )
    rare_crops = None if statistics is None else plan_rare_crops(training.rare_crops, statistics)
    return Stream(dataset, augmentation, training.seed, one_pass, rare_crops=rare_crops, cache_bytes=cache_bytes)


def build_loader(
    dataset: SegmentationDataset,
    training: TrainingConfig,
    one_pass: np.ndarray | None = None,
    *,
    start_place: int,
    num_places: int,
    workers: int,
    input_spec: InputSpec | None = None,
    statistics: MaskStatistics | None = None,
    cache_bytes: int = 0,
    part: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Build the batches of a part of the stream; see `iter_batches`.

    Args:
        dataset: What is sampled.
        training: Crop, augmentation, seed and batch size.
        one_pass: The images of one pass as `list_pass` lists them, (N,). Default: each image once.
        start_place: First position in the stream, from 0.
        num_places: Number of positions, a multiple of the batch size.
        workers: Processes that read and augment; 0 reads in this one.
        input_spec: See `build_stream`.
        statistics: See `build_stream`.
        cache_bytes: Memory for decoded images, of all these processes together.
        part: Which part of each batch, see `iter_batches`.
    """
    from atrous.data.sampling import iter_batches

    stream = build_stream(
        dataset,
        training,
        one_pass,
        input_spec=input_spec,
        statistics=statistics,
        cache_bytes=cache_bytes // max(workers, 1),
    )
    return iter_batches(
        stream, batch=training.batch_size, start_place=start_place, num_places=num_places, workers=workers, part=part
    )


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
