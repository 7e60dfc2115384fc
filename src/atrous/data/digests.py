"""Digests of images that may be in both splits of a run, computed only where something cheaper agrees."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

from atrous.core.errors import DataError
from atrous.core.findings import shorten_list
from atrous.core.records import Progress, ProgressCallback
from atrous.core.words import describe_count
from atrous.data.contracts import SegmentationDataset, Splits
from atrous.data.facts import DatasetFacts, iter_threads
from atrous.data.facts_cache import FactsCache
from atrous.data.samples import read_sample

MADE_IMAGES = 32
"""Images without a file that are compared, of each split."""


def add_digests(
    splits: Splits,
    train: DatasetFacts,
    val: DatasetFacts,
    cache: FactsCache,
    progress: ProgressCallback | None = None,
) -> tuple[DatasetFacts, DatasetFacts]:
    """Return the facts of both splits with digests of the images that may be in both of them.

    These are the files whose size in bytes occurs in both splits. Of images that are made, not read, they are those
    whose masks have a size and pixel counts that occur in both splits, at most `MADE_IMAGES`.

    Args:
        splits: The data.
        train: Facts of the data to train on.
        val: Facts of the data to score on.
        cache: Facts of files that were read before.
        progress: Receives the progress.
    Raises:
        UsageError: A Python data set returns another type, shape or dtype than the contract says.
        DataError: A file or a sample cannot be read.
    """
    shared = set(_mark_images(train).values()) & set(_mark_images(val).values())
    return (
        _add_digests(splits.train, train, shared, cache, progress),
        _add_digests(splits.val, val, shared, cache, progress),
    )


def find_shared_files(dataset: SegmentationDataset, other: SegmentationDataset) -> list[int]:
    """Return the images of a data set whose files are those of another data set too, under whatever names.

    Args:
        dataset: Whose images are looked for.
        other: Where they are looked for. Images without a file are in neither.
    Returns:
        Indices in `dataset`, ascending.
    Raises:
        DataError: A file cannot be read.
    """
    ours, theirs = _list_files(dataset), _list_files(other)
    shared = {size for size, _ in ours.values()} & {size for size, _ in theirs.values()}
    with FactsCache() as cache:
        known = set(_read_digests(theirs, shared, cache).values())
        return [index for index, digest in _read_digests(ours, shared, cache).items() if digest in known]


def require_unseen(val: SegmentationDataset, train: SegmentationDataset) -> None:
    """Refuse validation data with images that an earlier stage trains on.

    Args:
        val: The data to score on.
        train: The data that the earlier stage trains on.
    Raises:
        DataError: They have files of the same content.
    """
    if shared := find_shared_files(val, train):
        raise DataError(
            f"{len(shared):,} of the {describe_count(len(val), 'image')} of {val.name} in {train.name} too, which an "
            f"earlier stage trains on: {shorten_list([str(val.image_path(index)) for index in shared])}",
            "The score would be that of training images: remove them from one of the two.",
        )


def _read_digests(files: Mapping[int, tuple[int, Path]], sizes: set[int], cache: FactsCache) -> dict[int, str]:
    chosen = {index: path for index, (size, path) in files.items() if size in sizes}
    return dict(zip(chosen, iter_threads(cache.read_digest, list(chosen.values())), strict=True))


def _list_files(dataset: SegmentationDataset) -> dict[int, tuple[int, Path]]:
    """Return the files of images that exist, with their sizes in bytes, by index."""
    paths = {index: dataset.image_path(index) for index in range(len(dataset))}
    return {index: (path.stat().st_size, path) for index, path in paths.items() if path is not None and path.is_file()}


def _mark_images(facts: DatasetFacts) -> Mapping[int, Hashable]:
    """Return what equal images have in common, by index, and what is known without reading them."""
    marks: dict[int, Hashable] = {}
    for index, item in enumerate(facts.items):
        if item.image_path is not None and item.image is not None:
            marks[index] = item.image_path.stat().st_size
        elif item.image_path is None and item.mask is not None:
            marks[index] = (item.mask.size, tuple(sorted(item.mask.counts.items())))
    return marks


def _add_digests(
    dataset: SegmentationDataset,
    facts: DatasetFacts,
    shared: set[Hashable],
    cache: FactsCache,
    progress: ProgressCallback | None,
) -> DatasetFacts:
    items = list(facts.items)
    chosen = [index for index, mark in _mark_images(facts).items() if mark in shared]
    files = {index: path for index in chosen if (path := items[index].image_path) is not None}
    made = list(islice((index for index in chosen if index not in files), MADE_IMAGES))
    digests: Iterable[str] = iter_threads(cache.read_digest, list(files.values()))
    for number, (index, digest) in enumerate(zip(files, digests, strict=True), start=1):
        items[index] = replace(items[index], digest=digest)
        if progress is not None:
            progress(Progress(f"comparing the images of {facts.name}", number, len(files)))
    for index in made:
        pixels = read_sample(dataset, index).image.tobytes()
        items[index] = replace(items[index], digest=hashlib.sha256(pixels).hexdigest())
    return replace(facts, items=tuple(items))
