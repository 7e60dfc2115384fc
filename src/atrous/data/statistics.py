"""What the masks hold: one pass over all of them, what stops a training, and class weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from atrous.core.errors import DataError
from atrous.core.labels import LabelSpace
from atrous.core.records import Progress, ProgressCallback
from atrous.data.classes import suggest_mapping
from atrous.data.contracts import SegmentationDataset
from atrous.data.facts import MaskContent, compute_content, describe_size_mismatch, load_content
from atrous.data.inventory import shorten_list
from atrous.images.decode import load_header

WEIGHT_CAP = 10.0
"""Largest class weight / smallest."""

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class MaskStatistics:
    """What all masks of a data set hold.

    Args:
        pixels: (K,) int64 pixels of each class.
        presence: (N, K) bool, whether each image holds each class.
        ignored: Pixels by ignored id.
        num_masks: Masks read.
        findings: What a person should know, a sentence each.
    """

    pixels: np.ndarray
    presence: np.ndarray
    ignored: dict[int, int]
    num_masks: int
    findings: tuple[str, ...]

    @property
    def images(self) -> np.ndarray:
        """(K,) int64 images that hold each class."""
        counts: np.ndarray = self.presence.sum(axis=0)
        return counts

    @property
    def ignored_pixels(self) -> int:
        """Pixels that are neither trained on nor scored."""
        return sum(self.ignored.values())


def scan_masks(dataset: SegmentationDataset, progress: ProgressCallback | None = None) -> MaskStatistics:
    """Read every mask once, and every image's head.

    Args:
        dataset: What to read.
        progress: Receives the progress.

    Raises:
        DataError: A mask cannot be read, differs in size from its image, or holds an id outside the classes; the
            message names the files, ids and pixel counts of all that was found.
    """
    space = dataset.label_space
    totals: dict[int, int] = {}
    presence = np.zeros((len(dataset), space.num_classes), dtype=bool)
    unreadable, mismatched, outside, turned = [], [], [], 0
    known = {*space.ids, *space.ignored_ids}

    def read(index: int) -> tuple[MaskContent, str, bool]:
        image, mask = dataset.image_path(index), dataset.mask_path(index)
        content = load_content(mask) if mask else compute_content(dataset.mask(index))
        if image and mask:
            header = load_header(image)
            return content, describe_size_mismatch(image, header, mask, content.size), header.is_turned
        return content, "", False

    results = iter_threads(read, range(len(dataset)), f"reading the masks of {dataset.name}", progress)
    for index, result in enumerate(results):
        if isinstance(result, DataError):
            unreadable.append(result.message)
            continue
        content, mismatch, is_turned = result
        turned += is_turned
        if mismatch:
            mismatched.append(mismatch)
        strange = {number: count for number, count in content.counts.items() if number not in known}
        if strange:
            first = dict(sorted(strange.items())[:5])
            outside.append(f"{dataset.mask_path(index) or dataset.key(index)}: {_describe_counts(first)}")
        presence[index] = [number in content.counts for number in space.ids]
        for number, count in content.counts.items():
            totals[number] = totals.get(number, 0) + count
    _require_clean(space, totals, unreadable, mismatched, outside)

    ignored = {number: totals[number] for number in space.ignored_ids if number in totals}
    findings = [f"{dataset.name}: ignored ids: {_describe_counts(ignored)}"] if ignored else []
    if turned:
        findings.append(f"{dataset.name}: {turned:,} images have an EXIF rotation, applied to them and not to masks")
    return MaskStatistics(
        pixels=np.array([totals.get(number, 0) for number in space.ids], dtype=np.int64),
        presence=presence,
        ignored=ignored,
        num_masks=len(dataset),
        findings=tuple(findings),
    )


def find_empty_classes(statistics: MaskStatistics, space: LabelSpace) -> list[str]:
    """List the classes without a single pixel, such as "'car' (id 8)"."""
    rows = zip(space.names, space.ids, statistics.pixels.tolist(), strict=True)
    return [f"{name!r} (id {number})" for name, number, pixels in rows if pixels == 0]


def require_classes(statistics: MaskStatistics, space: LabelSpace, name: str) -> None:
    """Refuse to train on named classes that are nowhere to be seen.

    Args:
        statistics: What the training masks of `name` hold.
        space: The named classes.
        name: The data set, for the message.

    Raises:
        DataError: A class has no valid pixel.
    """
    empty = find_empty_classes(statistics, space)
    if not empty:
        return
    seen = [number for number, pixels in zip(space.ids, statistics.pixels.tolist(), strict=True) if pixels]
    found = sorted([*seen, *statistics.ignored])
    message = f"{name}: no valid pixel of {shorten_list(empty)} in {statistics.num_masks:,} masks"
    mapping = suggest_mapping(found, sorted(statistics.ignored))
    if mapping and statistics.ignored:
        message += f": the masks hold only {found[0]} and {found[1]}, and {found[1]} is ignored"
    names = [name for name, pixels in zip(space.names, statistics.pixels.tolist(), strict=True) if pixels]
    raise DataError(message, mapping or f"Name only classes that occur: {', '.join(names)}; or add images of the rest.")


def compute_class_weights(pixels: np.ndarray) -> tuple[float, ...]:
    """Weigh classes by 1 / sqrt(share of pixels), at most `WEIGHT_CAP` times the smallest weight, with mean 1.

    Args:
        pixels: (K,) pixels of each class, not all 0.
    """
    raw = 1.0 / np.sqrt(np.maximum(pixels, 1e-12) / pixels.sum())
    weights = np.minimum(raw, raw.min() * WEIGHT_CAP)
    return tuple((weights / weights.mean()).tolist())


def iter_threads(
    function: Callable[[Item], Result], items: Sequence[Item], stage: str, progress: ProgressCallback | None = None
) -> Iterator[Result | DataError]:
    """Map a function over items on all usable cores, in order; a DataError is a result, so that all are seen."""

    def call(item: Item) -> Result | DataError:
        try:
            return function(item)
        except DataError as error:
            return error

    pool = ThreadPoolExecutor()
    try:
        for done, result in enumerate(pool.map(call, items), start=1):
            if progress is not None:
                progress(Progress(stage, done, len(items)))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


def _require_clean(
    space: LabelSpace, totals: dict[int, int], unreadable: list[str], mismatched: list[str], outside: list[str]
) -> None:
    problems, hints = [], []
    if unreadable:
        problems.append(f"{len(unreadable):,} files cannot be read: {shorten_list(unreadable)}")
        hints.append("Replace those files, or remove them with their pairs.")
    if mismatched:
        problems.append(f"{len(mismatched):,} pairs differ in size: {shorten_list(mismatched)}")
        hints.append("Masks are never resized to fit: export them again at the image's size.")
    if outside:
        known = {*space.ids, *space.ignored_ids}
        strange = sorted(number for number in totals if number not in known)
        problems.append(f"{len(outside):,} masks hold ids outside the classes: {shorten_list(outside)}")
        classes = ", ".join(f"{number} {name}" for number, name in zip(space.ids, space.names, strict=True))
        hints.append(
            f"Classes are {classes}. Name {', '.join(map(str, strange[:10]))} in data.classes, "
            "or put them into data.ignore. " + suggest_mapping(totals, space.ignored_ids)
        )
    if problems:
        raise DataError("\n  ".join(["the data cannot be used as it is:", *problems]), " ".join(hints).strip())


def _describe_counts(counts: dict[int, int]) -> str:
    return ", ".join(f"{number} ({count:,} pixels)" for number, count in sorted(counts.items()))
