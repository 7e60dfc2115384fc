"""Several data sets joined into one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from atrous.core.labels import LabelSpace
from atrous.core.records import Sample
from atrous.data.contracts import SegmentationDataset, describe_dataset
from atrous.data.samples import is_thread_safe


class JoinedDataset:
    """Data sets of one label space, one after another; a key that occurs in several counts once.

    Args:
        name: Name of the whole.
        parts: The data sets, at least one.
    """

    def __init__(self, name: str, parts: Sequence[SegmentationDataset]) -> None:
        self.name = name
        places: dict[str, tuple[SegmentationDataset, int]] = {}
        for part in parts:
            for index in range(len(part)):
                places.setdefault(part.key(index), (part, index))
        self.label_space: LabelSpace = parts[0].label_space
        self._places = list(places.values())
        self.thread_safe = all(is_thread_safe(part) for part in parts)

    def __repr__(self) -> str:
        return describe_dataset(self)

    def __len__(self) -> int:
        return len(self._places)

    def get(self, index: int) -> Sample:
        """Return the image and its labels as class indices."""
        part, inner = self._places[index]
        return part.get(inner)

    def key(self, index: int) -> str:
        """Return the sample's name."""
        part, inner = self._places[index]
        return part.key(inner)

    def mask(self, index: int) -> np.ndarray:
        """Return the raw ids, (H, W)."""
        part, inner = self._places[index]
        return part.mask(inner)

    def image_path(self, index: int) -> Path | None:
        """Return the file of the image, if there is one."""
        part, inner = self._places[index]
        return part.image_path(inner)

    def mask_path(self, index: int) -> Path | None:
        """Return the file of the mask, if there is one."""
        part, inner = self._places[index]
        return part.mask_path(inner)
