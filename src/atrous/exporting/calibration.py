"""The images by which a file is made to compute in 8 bits, and on which it is compared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from atrous.data.contracts import SegmentationDataset
from atrous.data.samples import read_sample
from atrous.images.decode import load_image
from atrous.inference.folders.inputs import find_images
from atrous.inference.memory import LARGEST_WINDOW

NUM_IMAGES = 32
"""Half of them show the ranges, half are compared."""


def read_images(source: str | Path) -> list[np.ndarray]:
    """Return some of the images that a file, a folder or a glob names, evenly spaced, (H, W, 3) uint8 each.

    Raises:
        UsageError: There is no such file or folder, or no image in it.
        DataError: A file cannot be read as an image.
    """
    files = find_images(source)
    return _gather(len(files), lambda index: load_image(files[index].path))


def sample_images(dataset: SegmentationDataset) -> list[np.ndarray]:
    """Return some of a data set's images, evenly spaced, (H, W, 3) uint8 each."""
    return _gather(len(dataset), lambda index: read_sample(dataset, index).image)


def _gather(count: int, read: Callable[[int], np.ndarray]) -> list[np.ndarray]:
    """Read up to `NUM_IMAGES` of `count`, of large ones the middle: a pass over the whole might not fit in memory."""
    images = []
    for index in sorted({place * count // NUM_IMAGES for place in range(NUM_IMAGES)} if count else ()):
        image = read(index)
        top, left = (max(side - LARGEST_WINDOW, 0) // 2 for side in image.shape[:2])
        images.append(image[top : top + LARGEST_WINDOW, left : left + LARGEST_WINDOW].copy())
    return images
