"""Selects the images that calibrate an 8-bit file and those it is compared on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from atrous.core.inputs import PHOTO, ImageForm
from atrous.data.contracts import SegmentationDataset
from atrous.data.samples import read_as, read_sample
from atrous.images.bands import load_bands
from atrous.inference.folders.inputs import find_images
from atrous.inference.memory import LARGEST_WINDOW

NUM_IMAGES = 32
"""Number of images: half of them for calibration, half for the comparison."""


def read_images(source: str | Path, form: ImageForm = PHOTO) -> list[np.ndarray]:
    """Return some of the images in a file, folder or glob, evenly spaced, (H, W, C) each.

    Args:
        source: The file, folder or glob.
        form: What the images are read as.
    Raises:
        UsageError: The source does not exist or contains no image.
        DataError: A file cannot be read as an image.
    """
    files = find_images(source)
    return _gather(len(files), lambda index: load_bands(files[index].path, form).image)


def sample_images(dataset: SegmentationDataset, form: ImageForm = PHOTO) -> list[np.ndarray]:
    """Return some images of a data set, evenly spaced, (H, W, C) each.

    Args:
        dataset: The data set.
        form: What the images are read as.
    Raises:
        DataError: A file cannot be read, or the images have another form.
    """
    dataset = read_as(dataset, form)
    return _gather(len(dataset), lambda index: read_sample(dataset, index).image)


def _gather(count: int, read: Callable[[int], np.ndarray]) -> list[np.ndarray]:
    """Read up to `NUM_IMAGES` of `count` images; large images are cropped at their centre, to limit memory."""
    images = []
    for index in sorted({place * count // NUM_IMAGES for place in range(NUM_IMAGES)} if count else ()):
        image = read(index)
        top, left = (max(side - LARGEST_WINDOW, 0) // 2 for side in image.shape[:2])
        images.append(image[top : top + LARGEST_WINDOW, left : left + LARGEST_WINDOW].copy())
    return images
