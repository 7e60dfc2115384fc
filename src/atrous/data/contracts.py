"""What a data set is to the rest of the project, and the pair of them that a run needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from atrous.core.labels import LabelSpace
from atrous.core.records import Sample


class SegmentationDataset(Protocol):
    """Images with labels, in a fixed order; the same index gives the same sample, and it pickles.

    `name` is the name of data and split, such as "camvid val"; `label_space` says what ids in its masks mean.
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
        """Return the image and its labels as class indices.

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
        """Return the image's file; None where images are made, not read."""
        ...

    def mask_path(self, index: int) -> Path | None:
        """Return the mask's file; None where masks are made, not read."""
        ...


@dataclass(frozen=True)
class Splits:
    """The data of a run.

    Args:
        train: What is trained on.
        val: What is scored.
        layout: How the data lay on the disk, in words, such as "images/ and masks/, split by a seed".
        notes: What was assumed, a sentence each, for the person to read.
    """

    train: SegmentationDataset
    val: SegmentationDataset
    layout: str
    notes: tuple[str, ...] = field(default=())
