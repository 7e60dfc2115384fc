"""What the rest of the project expects of a data set, and the pair of them that a run needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from atrous.core.labels import LabelSpace
from atrous.core.records import Note, Sample
from atrous.core.words import describe_count


class SegmentationDataset(Protocol):
    """Images with labels, in a fixed order; the same index gives the same sample, and it pickles.

    A data set is called from one thread at a time, the one that trains or scores, unless it has an attribute
    `thread_safe` that is true; then images may also be read ahead in other threads. Each worker process of a training
    (`workers` above 0) has a copy of its own and calls it from its main thread.

    Samples are checked when they are read: see `atrous.data.samples.read_sample`.
    """

    @property
    def name(self) -> str:
        """Name of data and split, such as "camvid val"."""
        ...

    @property
    def label_space(self) -> LabelSpace:
        """What the ids in the masks mean."""
        ...

    def __len__(self) -> int: ...

    def get(self, index: int) -> Sample:
        """Return the image, (H, W, 3) uint8 RGB, and its labels, class indices (H, W) uint16.

        Raises:
            DataError: A file cannot be read, the sizes differ, or the mask holds an id outside the classes.
        """
        ...

    def key(self, index: int) -> str:
        """Return the sample's name, unique in the data set: a path without suffix, such as "a/photo"."""
        ...

    def mask(self, index: int) -> np.ndarray:
        """Return the raw ids, (H, W) uint8 or uint16, without decoding the image.

        Raises:
            DataError: The file cannot be read as a mask.
        """
        ...

    def image_path(self, index: int) -> Path | None:
        """Return the file of the image; None if images are made, not read."""
        ...

    def mask_path(self, index: int) -> Path | None:
        """Return the file of the mask; None if masks are made, not read."""
        ...


def describe_dataset(dataset: SegmentationDataset) -> str:
    """Return a data set in one line, as its `__repr__`."""
    images = describe_count(len(dataset), "image")
    classes = describe_count(dataset.label_space.num_classes, "class")
    return f"{type(dataset).__name__}({dataset.name!r}, {images}, {classes})"


@dataclass(frozen=True)
class Splits:
    """The data of a run.

    Args:
        train: The data to train on.
        val: The data to score on.
        layout: How the files are laid out, such as "images/ and masks/ without splits".
        notes: What was assumed or skipped.
    """

    train: SegmentationDataset
    val: SegmentationDataset
    layout: str
    notes: tuple[Note, ...] = field(default=())

    def __repr__(self) -> str:
        return f"Splits(train={self.train!r}, val={self.val!r}, layout={self.layout!r})"
