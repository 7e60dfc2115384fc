"""Rasters larger than memory as data: each is divided into blocks, and each block is a sample of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path

from atrous.core.errors import AtrousError, DataError
from atrous.core.findings import shorten_list
from atrous.core.labels import LabelSpace
from atrous.core.records import Note
from atrous.core.words import describe_count
from atrous.data.inventory import Pair
from atrous.images.decode import is_huge_tiff
from atrous.images.tiff_tags import AS_TILES, MOST_PX, is_tiff
from atrous.images.windows import Window, open_tiff

BLOCK_PX = 2048
"""Side of the blocks; the last row and the last column of a raster have between half of it and one and a half."""

Splits = Mapping[str, Sequence[Pair]]


def cut_rasters(splits: Splits, page: int | None = None) -> tuple[dict[str, tuple[Pair, ...]], tuple[Note, ...]]:
    """Divide the rasters among some pairs into blocks: TIFFs with more than `HUGE_PX` pixels.

    A raster that cannot be read in parts stays whole, if it is not too large for that.

    Args:
        splits: The pairs of each split.
        page: Page of files with several, from 1.
    Returns:
        The pairs, those of a raster with a window each, and what was done.
    Raises:
        DataError: A raster is too large to be read whole and cannot be read in parts, or its mask has another size.
    """
    lines, notes, found = [], list[Note](), dict[str, tuple[Pair, ...]]()
    for split, pairs in splits.items():
        cut: list[Pair] = []
        for pair in pairs:
            blocks, note = _cut(pair, page) if is_huge_tiff(Path(pair.image)) else ([pair], None)
            cut += blocks
            if note is not None:
                notes.append(note)
            if (window := blocks[0].window) is not None:
                height, width = window.whole
                lines.append(f"{Path(pair.image).name}, {height:,} x {width:,} pixels in {len(blocks):,} blocks")
        found[split] = tuple(cut)
    if lines:
        message = (
            f"{describe_count(len(lines), 'raster')} read in windows: {shorten_list(lines)}; each block of about "
            f"{BLOCK_PX:,} x {BLOCK_PX:,} pixels is an image of its own"
        )
        notes.insert(0, Note("rasters-in-windows", message))
    return found, tuple(notes)


def drop_unlabelled(
    splits: Splits, ids: Mapping[str, Collection[int]], space: LabelSpace
) -> tuple[dict[str, tuple[Pair, ...]], tuple[Note, ...]]:
    """Skip the blocks of rasters in which no pixel is labelled.

    Args:
        splits: The pairs of each split.
        ids: The ids in the mask of each pair by its key; none of a mask that cannot be read.
        space: What they mean.
    Returns:
        The other pairs, and how many were skipped.
    """
    empty = {
        pair.key
        for pairs in splits.values()
        for pair in pairs
        if pair.window is not None
        and ids[pair.key]
        and {*ids[pair.key]} <= {*space.ignored_ids}  # unknown ids are no void: the checks report them
    }
    if not empty:
        return {split: tuple(pairs) for split, pairs in splits.items()}, ()
    message = f"{describe_count(len(empty), 'block')} of rasters without a labelled pixel skipped"
    left = {split: tuple(pair for pair in pairs if pair.key not in empty) for split, pairs in splits.items()}
    return left, (Note("blocks-skipped", message),)


def _cut(pair: Pair, page: int | None) -> tuple[list[Pair], Note | None]:
    """Return a pair for each block of a raster, or the pair itself with the reason why it is read whole."""
    size: tuple[int, int] | None = None
    try:
        in_strips = False
        for file, number in ((pair.image, page), (pair.mask, 1)):
            if file is None:
                continue
            path = Path(file)
            if not is_tiff(path):
                raise DataError(f"{path}: is no TIFF, and only TIFFs are read in parts", AS_TILES)
            with open_tiff(path, number) as tiff:
                if size is not None and size != (tiff.height, tiff.width):
                    raise _describe_sizes(pair, size, (tiff.height, tiff.width))
                size, in_strips = (tiff.height, tiff.width), in_strips or tiff.is_in_strips
    except AtrousError as error:
        if is_huge_tiff(Path(pair.image), MOST_PX):
            code = error.code if isinstance(error, DataError) and error.code else "unreadable-image"
            raise DataError(f"{pair.image} is larger than memory. {error.message}", error.hint, code) from error
        return [pair], Note("raster-read-whole", f"{pair.image} is read as a whole. {error.message}: {error.hint}")
    if size is None:
        return [pair], None
    note = None
    if in_strips and size[1] > 2 * BLOCK_PX:
        message = (
            f"{pair.image} or its mask is stored in compressed strips, so that each window decodes whole rows. "
            f"{AS_TILES} That reads windows about {size[1] / BLOCK_PX:.0f} times faster"
        )
        note = Note("raster-in-strips", message)
    return [replace(pair, key=pair.key + window.label, window=window) for window in list_blocks(size)], note


def list_blocks(size: tuple[int, int]) -> list[Window]:
    """Divide a raster into blocks without overlap, row by row.

    Args:
        size: Its height and width in pixels.
    """
    rows, columns = (list(pairwise(_cut_side(side))) for side in size)
    return [
        Window(top, left, bottom - top, right - left, size) for (top, bottom), (left, right) in product(rows, columns)
    ]


def _cut_side(length: int) -> list[int]:
    return [number * BLOCK_PX for number in range(max(round(length / BLOCK_PX), 1))] + [length]


def _describe_sizes(pair: Pair, size: tuple[int, int], mask_size: tuple[int, int]) -> DataError:
    return DataError(
        f"{pair.image} is {size[0]}x{size[1]} (height x width), {pair.mask} is {mask_size[0]}x{mask_size[1]}",
        "Masks are never resized to fit: export them again at the size of the image.",
        "size-mismatch",
    )
