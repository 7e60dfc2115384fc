"""Images that are in two data sets, found by their content."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

from atrous.core.errors import DataError
from atrous.core.findings import shorten_list
from atrous.core.words import describe_count
from atrous.data.contracts import SegmentationDataset, Splits
from atrous.data.facts import DatasetFacts, hash_array, iter_threads
from atrous.data.facts_cache import FactsCache
from atrous.data.samples import find_window, read_sample

MADE_IMAGES = 32
"""Images without a file that are compared, of each split."""


def add_digests(splits: Splits, train: DatasetFacts, val: DatasetFacts) -> tuple[DatasetFacts, DatasetFacts]:
    """Return the facts of both splits with digests of images that are made, not read, and may be in both splits.

    These are the images whose masks have a size and pixel counts that occur in both, at most `MADE_IMAGES`; files have
    their digests already.

    Args:
        splits: The data.
        train: Facts of the data to train on.
        val: Facts of the data to score on.
    Raises:
        UsageError: A Python data set returns another type, shape or dtype than the contract says.
        DataError: A sample cannot be read.
    """
    shared = set(_mark_made(train).values()) & set(_mark_made(val).values())
    return _add_digests(splits.train, train, shared), _add_digests(splits.val, val, shared)


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
        known = set(_read_digests(other, theirs, shared, cache).values())
        return [index for index, digest in _read_digests(dataset, ours, shared, cache).items() if digest in known]


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


def _read_digests(
    dataset: SegmentationDataset, files: Mapping[int, tuple[int, Path]], sizes: set[int], cache: FactsCache
) -> dict[int, str]:
    chosen = [index for index, (size, _) in files.items() if size in sizes]

    def read(index: int) -> str:
        return cache.read_digest(files[index][1], find_window(dataset, index))

    return dict(zip(chosen, iter_threads(read, chosen), strict=True))


def _list_files(dataset: SegmentationDataset) -> dict[int, tuple[int, Path]]:
    """Return the files of images that exist, with their sizes in bytes, by index."""
    paths = {index: dataset.image_path(index) for index in range(len(dataset))}
    return {index: (path.stat().st_size, path) for index, path in paths.items() if path is not None and path.is_file()}


def _mark_made(facts: DatasetFacts) -> Mapping[int, Hashable]:
    """Return what equal images have in common, of those without a file, by index."""
    return {
        index: (item.mask.size, tuple(sorted(item.mask.counts.items())))
        for index, item in enumerate(facts.items)
        if item.image_path is None and item.mask is not None
    }


def _add_digests(dataset: SegmentationDataset, facts: DatasetFacts, shared: set[Hashable]) -> DatasetFacts:
    items = list(facts.items)
    for index in islice((index for index, mark in _mark_made(facts).items() if mark in shared), MADE_IMAGES):
        items[index] = replace(items[index], digest=hash_array(read_sample(dataset, index).image))
    return replace(facts, items=tuple(items))
