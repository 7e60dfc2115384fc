"""What one mask or image holds."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atrous.core.errors import DataError
from atrous.images.decode import ImageHeader, load_mask


@dataclass(frozen=True)
class MaskContent:
    """What one mask holds.

    Args:
        size: Height and width.
        counts: Pixels by id.
    """

    size: tuple[int, int]
    counts: dict[int, int]


def load_content(path: Path) -> MaskContent:
    """Read what a mask's file holds; a file that has not changed is decoded once in a process.

    Raises:
        DataError: The file cannot be read as a mask.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: no such file") from error
    return _load_content(path, status.st_mtime_ns, status.st_size)


@functools.cache  # a few ids a mask; stamp and size stand for the file's content
def _load_content(path: Path, modified_ns: int, num_bytes: int) -> MaskContent:
    return compute_content(load_mask(path))


def compute_content(mask: np.ndarray) -> MaskContent:
    """Count the pixels of each id in a mask (H, W)."""
    counts = np.bincount(mask.ravel())
    ids = np.flatnonzero(counts)
    return MaskContent((mask.shape[0], mask.shape[1]), dict(zip(ids.tolist(), counts[ids].tolist(), strict=True)))


def describe_size_mismatch(image: Path, header: ImageHeader, mask: Path, mask_size: tuple[int, int]) -> str:
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
    if header.is_turned and size[::-1] == mask_size:
        line += ": the image is rotated by its EXIF orientation, and the mask was drawn on the unrotated image"
    return line
