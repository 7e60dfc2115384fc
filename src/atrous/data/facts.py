"""What the files of a data set hold: sizes, modes, ids and pixel counts, each file decoded once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
import xxhash

from atrous.core.errors import DataError
from atrous.core.inputs import PHOTO, ImageForm
from atrous.core.labels import LabelSpace
from atrous.core.machine import count_usable_cores
from atrous.core.records import Progress, ProgressCallback
from atrous.data.contracts import SegmentationDataset
from atrous.data.facts_cache import NOTHING, FactsCache, MaskFacts, count_ids, join_masks
from atrous.data.mask_reader import PLAIN, MaskReader
from atrous.data.samples import find_form, find_window, is_thread_safe, require_mask
from atrous.images.decode import ImageHeader
from atrous.images.traits import ImageTraits
from atrous.images.windows import Window

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_WAITING = 256
"""Items that threads have been given, whose results have not been taken."""


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What is known of one image and its mask.

    Args:
        key: Name of the sample.
        image_path: File of the image as text; None if it is made, not read.
        mask_path: File of the mask likewise.
        image: Header of the image; None if it has no file or cannot be read.
        mask: Facts of the mask; None if it cannot be read.
        image_error: Why the image cannot be read; None if it can.
        mask_error: Why the mask cannot be read likewise.
        digest: Hash of the file of the image, or of the pixels of an image that is made where the other split may hold
            the same; None if it cannot be read.
        traits: What checks compare between images; None if the image has no file or cannot be read.
        colours: Pixels by colour, red * 65536 + green * 256 + blue, of a mask in colour where ids were expected.
        window: The part of the files that is meant; None: the whole.
    """

    key: str
    image_path: str | None
    mask_path: str | None
    image: ImageHeader | None = None
    mask: MaskFacts | None = None
    image_error: DataError | None = None
    mask_error: DataError | None = None
    digest: str | None = None
    traits: ImageTraits | None = None
    colours: Mapping[int, int] = field(default_factory=lambda: NOTHING)
    window: Window | None = None


@dataclass(frozen=True)
class DatasetFacts:
    """What is known of all samples of a data set.

    Args:
        name: Name of the data set.
        label_space: Its classes.
        items: Facts of each sample, in the order of the data set.
        form: How images become arrays.
    """

    name: str
    label_space: LabelSpace
    items: tuple[ItemFacts, ...]
    form: ImageForm = PHOTO

    def sum_pixels(self) -> dict[int, int]:
        """Return the pixels of each id in all masks that can be read."""
        return dict(self._totals)

    @cached_property
    def _totals(self) -> dict[int, int]:
        totals: dict[int, int] = {}
        for item in self.items:
            for number, count in item.mask.counts.items() if item.mask else ():
                totals[number] = totals.get(number, 0) + count
        return dict(sorted(totals.items()))


def read_facts(
    dataset: SegmentationDataset, cache: FactsCache, progress: ProgressCallback | None = None
) -> DatasetFacts:
    """Decode every image and mask of a data set; files that cannot be read are recorded.

    Files are read in threads; masks that are made, not read, only if the data set is thread-safe.

    Args:
        dataset: What to read.
        cache: Facts of files that were read before.
        progress: Receives the progress.
    Raises:
        UsageError: A mask that is made, not read, has another shape or dtype than the contract says.
    """
    indices = range(len(dataset))
    reader: MaskReader = getattr(dataset, "mask_reader", PLAIN)

    def read(sample: tuple[int, str, str | None, str | None]) -> ItemFacts:
        index, key, image_path, mask_path = sample
        item = _read_files(key, image_path, mask_path, find_window(dataset, index), cache, reader)
        if mask_path is not None:
            return item
        try:
            mask = require_mask(dataset, index)
            return replace(item, mask=MaskFacts(*count_ids(mask), digest=hash_array(mask)))
        except DataError as error:
            return replace(item, mask_error=error)

    in_threads = is_thread_safe(dataset) or all(dataset.mask_path(index) is not None for index in indices)
    samples = ((index, dataset.key(index), *_name_files(dataset, index)) for index in indices)  # made in this thread
    items = iter_threads(read, samples) if in_threads else map(read, samples)
    found = []
    for item in items:
        found.append(item)
        if progress is not None:
            progress(Progress(f"reading {dataset.name}", len(found), len(dataset)))
    return DatasetFacts(dataset.name, dataset.label_space, tuple(found), find_form(dataset))


def hash_array(array: np.ndarray) -> str:
    """Return a hash of an array's values, dtype and shape, in hexadecimal.

    Shapes:
        in: any.
    """
    digest = xxhash.xxh3_128(f"{array.shape} {array.dtype.str}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def iter_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Map a function over items on all usable cores, in order.

    Args:
        function: What is called in the threads.
        items: Its arguments.
    """
    pool = ThreadPoolExecutor(max_workers=count_usable_cores())
    running: deque[Future[Result]] = deque()
    try:
        for item in items:  # not all at once: of a million, those that wait would take more memory than the results
            running.append(pool.submit(function, item))
            if len(running) > MOST_WAITING:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def describe_size_mismatch(image: str, header: ImageHeader, mask: str, mask_size: tuple[int, int]) -> str:
    """Describe in one line how an image and its mask differ in size.

    Args:
        image: The image file.
        header: Its header.
        mask: The mask file.
        mask_size: Height and width of the mask in pixels.
    Returns:
        The line; empty if the sizes agree.
    """
    size = (header.height, header.width)
    if size == mask_size:
        return ""
    line = f"{image} is {size[0]}x{size[1]} (height x width), {mask} is {mask_size[0]}x{mask_size[1]}"
    factor = size[0] / mask_size[0]
    if header.is_turned and size[::-1] == mask_size:
        line += ": the image is rotated by its EXIF orientation, and the mask was drawn on the unrotated image"
    elif factor != 1 and abs(size[1] / factor - mask_size[1]) <= 1:
        line += f": the mask was drawn on the image at {1 / factor:.4g} times its size"
    return line


def _name_files(dataset: SegmentationDataset, index: int) -> tuple[str | None, str | None]:
    """Return the files of a sample as text: what a data set over pairs holds, since a copy would take memory."""
    if (name_files := getattr(dataset, "name_files", None)) is not None:
        files: tuple[str, str | None] = name_files(index)
        return files
    image, mask = dataset.image_path(index), dataset.mask_path(index)
    return None if image is None else str(image), None if mask is None else str(mask)


def _read_files(
    key: str,
    image_path: str | None,
    mask_path: str | None,
    window: Window | None,
    cache: FactsCache,
    reader: MaskReader,
) -> ItemFacts:
    image = mask = image_error = mask_error = digest = traits = None
    colours = NOTHING
    if image_path is not None:
        try:
            image, traits, digest = cache.read_image(Path(image_path), window)
        except DataError as error:
            image_error = error
    if mask_path is not None:
        try:
            mask = reader.read_facts(Path(mask_path), cache, window)
        except DataError as error:
            mask_error = error
            if error.code == "colour-mask":
                with suppress(DataError):
                    colours = cache.read_mask_colours(Path(mask_path), window).counts
    return ItemFacts(key, image_path, mask_path, image, mask, image_error, mask_error, digest, traits, colours, window)


def join_blocks(facts: DatasetFacts) -> DatasetFacts:
    """Return the facts with one item for each raster, as findings name files and no parts of them."""
    return replace(facts, items=join_items(facts.items))


def join_items(items: Sequence[ItemFacts]) -> tuple[ItemFacts, ...]:
    """Return one item for each raster, and the other items as they are.

    Args:
        items: Images with their masks; rasters in blocks, or joined already, as those of each split are.
    """
    if all(item.window is None for item in items):
        return tuple(items)
    groups: dict[Hashable, list[ItemFacts]] = {}
    for number, item in enumerate(items):
        key = number if item.window is None else (item.image_path, item.key.removesuffix(item.window.label))
        groups.setdefault(key, []).append(item)
    return tuple(group[0] if group[0].window is None else _join(group) for group in groups.values())


def _join(items: Sequence[ItemFacts]) -> ItemFacts:
    first, size = items[0], items[0].window.whole if items[0].window else (0, 0)
    image = next((replace(item.image, height=size[0], width=size[1]) for item in items if item.image), None)
    return replace(
        first,
        key=first.key if first.window is None else first.key.removesuffix(first.window.label),
        image=image,
        mask=join_masks([item.mask for item in items if item.mask], size),
        image_error=next((item.image_error for item in items if item.image_error), None),
        mask_error=next((item.mask_error for item in items if item.mask_error), None),
        digest=" ".join(item.digest for item in items if item.digest) or None,
        traits=_join_traits(items),
    )


def _join_traits(items: Sequence[ItemFacts]) -> ImageTraits | None:
    found = [
        (item.traits, sum(item.mask.counts.values()) if item.mask else item.image.height * item.image.width)
        for item in items
        if item.traits and item.image
    ]
    if not found:
        return None
    traits, areas = [each for each, _ in found], [area for _, area in found]
    bands = list(zip(*(each.values for each in traits), strict=True))
    return replace(
        traits[0],
        brightest=max(each.brightest for each in traits),
        peak=max(each.peak for each in traits),
        missing=float(np.average([each.missing for each in traits], weights=areas)),
        values=tuple((min(low for low, _ in band), max(high for _, high in band)) for band in bands),
    )
