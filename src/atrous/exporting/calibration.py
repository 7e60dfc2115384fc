"""The pictures by which a file is made to compute in 8 bits, and on which it is compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from atrous.data.contracts import SegmentationDataset
from atrous.data.reading import load_picture
from atrous.inference.inputs import find_pictures
from atrous.inference.memory import LARGEST_WINDOW

NUM_PICTURES = 32
"""Half of them show the ranges, half are compared."""


def read_pictures(source: str | Path) -> list[np.ndarray]:
    """Return some of the pictures that a file, a folder or a glob names, evenly spaced, (H, W, 3) uint8 each.

    Raises:
        UsageError: There is no such file or folder, or no picture in it.
        DataError: A file cannot be read as a picture.
    """
    files = find_pictures(source)
    return _gather(len(files), lambda index: load_picture(files[index].path))


def sample_pictures(dataset: SegmentationDataset) -> list[np.ndarray]:
    """Return some of a data set's pictures, evenly spaced, (H, W, 3) uint8 each."""
    return _gather(len(dataset), lambda index: dataset.get(index).picture)


def _gather(count: int, read: Callable[[int], np.ndarray]) -> list[np.ndarray]:
    """Read up to `NUM_PICTURES` of `count`, of large ones the middle: a pass over the whole might not fit in memory."""
    pictures = []
    for index in sorted({place * count // NUM_PICTURES for place in range(NUM_PICTURES)} if count else ()):
        picture = read(index)
        top, left = (max(side - LARGEST_WINDOW, 0) // 2 for side in picture.shape[:2])
        pictures.append(picture[top : top + LARGEST_WINDOW, left : left + LARGEST_WINDOW].copy())
    return pictures
