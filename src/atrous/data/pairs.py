"""Images and masks that lie in files: finding the pairs by name, and the data set over them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atrous.core.errors import DataError
from atrous.core.labels import LabelSpace
from atrous.core.records import Sample
from atrous.data.facts import describe_size_mismatch
from atrous.data.inventory import Pair
from atrous.images.decode import load_header, load_image, load_mask


@dataclass(frozen=True)
class PairDataset:
    """The data set of some pairs of files; see `SegmentationDataset` for its methods."""

    name: str
    label_space: LabelSpace
    pairs: tuple[Pair, ...]

    def __len__(self) -> int:
        return len(self.pairs)

    def get(self, index: int) -> Sample:
        """Read a pair and turn ids into class indices.

        Raises:
            DataError: A file cannot be read, the sizes differ, or the mask holds an id outside the classes.
        """
        pair = self.pairs[index]
        image, mask = load_image(pair.image), load_mask(pair.mask)
        if image.shape[:2] != mask.shape:
            raise DataError(
                describe_size_mismatch(pair.image, load_header(pair.image), pair.mask, mask.shape[:2]),
                "Masks are never resized to fit.",
            )
        try:
            labels = self.label_space.encode(mask)
        except DataError as error:
            raise DataError(f"{pair.mask}: {error.message}", error.hint) from error
        return Sample(pair.key, image, labels)

    def key(self, index: int) -> str:
        """Return the path without suffix that image and mask share."""
        return self.pairs[index].key

    def mask(self, index: int) -> np.ndarray:
        """Return the raw ids, (H, W)."""
        return load_mask(self.pairs[index].mask)

    def image_path(self, index: int) -> Path:
        """Return the image's file."""
        return self.pairs[index].image

    def mask_path(self, index: int) -> Path:
        """Return the mask's file."""
        return self.pairs[index].mask


def require_folder(name: str, root: Path | None) -> Path:
    """Return the folder of a registered data set.

    Raises:
        DataError: No place is known, or nothing is there.
    """
    hint = f"Give its place: {name}=PATH; or the folder that holds {name}/: --data-root PATH, or ATROUS_DATA=PATH."
    if root is None:
        raise DataError(f"data set {name!r} was looked for nowhere: no --data-root, and ATROUS_DATA is not set", hint)
    if not root.is_dir():
        raise DataError(f"data set {name!r} was looked for in {root}, which is not a folder", hint)
    return root
