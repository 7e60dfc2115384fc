"""Several data sets joined into one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from atrous.core.inputs import ImageForm
from atrous.core.labels import LabelSpace
from atrous.core.records import Sample
from atrous.data.contracts import SegmentationDataset, describe_dataset
from atrous.data.samples import find_form, find_group_name, find_window, is_thread_safe, read_as, read_part
from atrous.images.windows import Window


class JoinedDataset:
    """Data sets of one label space, one after another; a key that occurs in several counts once.

    Args:
        name: Name of the whole.
        parts: The data sets, at least one.
    """

    def __init__(self, name: str, parts: Sequence[SegmentationDataset]) -> None:
        self.name = name
        self._parts = tuple(parts)
        places: dict[str, tuple[SegmentationDataset, int]] = {}
        for part in parts:
            for index in range(len(part)):
                places.setdefault(part.key(index), (part, index))
        self.label_space: LabelSpace = parts[0].label_space
        self._places = list(places.values())
        self.form = find_form(parts[0])
        self.thread_safe = all(is_thread_safe(part) for part in parts)

    def __repr__(self) -> str:
        return describe_dataset(self)

    def __len__(self) -> int:
        return len(self._places)

    def get(self, index: int) -> Sample:
        """Return the image and its labels as class indices."""
        part, inner = self._places[index]
        return part.get(inner)

    def read_as(self, form: ImageForm) -> JoinedDataset:
        """Return the same samples with images of another form."""
        return JoinedDataset(self.name, [read_as(part, form) for part in self._parts])

    def key(self, index: int) -> str:
        """Return the sample's name."""
        part, inner = self._places[index]
        return part.key(inner)

    def mask(self, index: int) -> np.ndarray:
        """Return the raw ids, (H, W)."""
        part, inner = self._places[index]
        return part.mask(inner)

    def get_part(self, index: int, rows: slice, columns: slice) -> Sample:
        """Return a part of a sample that has a window.

        Args:
            index: Number of the sample.
            rows: Rows of it, with explicit start and stop.
            columns: Columns likewise.
        """
        part, inner = self._places[index]
        return read_part(part, inner, rows, columns)

    def window(self, index: int) -> Window | None:
        """Return the part of its files that a sample is, if it is no whole image."""
        part, inner = self._places[index]
        return find_window(part, inner)

    def group(self, index: int) -> str | None:
        """Return the clip or scene of a sample; None: it is alone."""
        part, inner = self._places[index]
        return find_group_name(part, inner)

    def image_path(self, index: int) -> Path | None:
        """Return the file of the image, if there is one."""
        part, inner = self._places[index]
        return part.image_path(inner)

    def mask_path(self, index: int) -> Path | None:
        """Return the file of the mask, if there is one."""
        part, inner = self._places[index]
        return part.mask_path(inner)
