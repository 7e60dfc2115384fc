"""Images and masks in files: pairing them by name, and the data set over the pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from atrous.core.data_source import ROOT_VARIABLE
from atrous.core.errors import DataError
from atrous.core.findings import require_no_errors
from atrous.core.labels import LabelSpace
from atrous.core.records import Note, Sample
from atrous.data.checks.survey import Survey, run_checks
from atrous.data.contracts import describe_dataset
from atrous.data.facts import describe_size_mismatch
from atrous.data.inventory import Pair, take_inventory
from atrous.images.decode import load_header, load_image, load_mask


@dataclass(frozen=True)
class PairDataset:
    """The data set over some pairs of files; `SegmentationDataset` describes its methods.

    Args:
        name: Name of data and split, such as "camvid val".
        label_space: What the ids in the masks mean.
        pairs: The files.
    """

    name: str
    label_space: LabelSpace
    pairs: tuple[Pair, ...]
    thread_safe: ClassVar[bool] = True

    def __repr__(self) -> str:
        return describe_dataset(self)

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
            size = (mask.shape[0], mask.shape[1])
            raise DataError(
                describe_size_mismatch(pair.image, load_header(pair.image), pair.mask, size),
                "Masks are never resized to fit: export them again at the size of the image.",
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
        """Return the file of the image."""
        return self.pairs[index].image

    def mask_path(self, index: int) -> Path:
        """Return the file of the mask."""
        return self.pairs[index].mask


def find_pairs(folders: Sequence[tuple[str, Path, Path]]) -> tuple[list[tuple[Pair, ...]], list[Note]]:
    """Pair images with masks by their path without suffix, sub-folders included; never by order.

    Args:
        folders: For each split: what its keys begin with (such as "train/"), its folder of images, that of masks.
    Returns:
        The pairs of each split, sorted by key, and what was skipped.
    Raises:
        DataError: An image without a mask, a mask without an image, several files of one name, or a folder without
            pairs; all of it in one message.
    """
    inventories = take_inventory(folders)
    findings = run_checks(Survey(inventories=inventories))
    require_no_errors(findings)
    return [inventory.pairs for inventory in inventories], [finding.to_note() for finding in findings]


def require_folder(name: str, root: Path | None) -> Path:
    """Return the folder of a registered data set.

    Args:
        name: Name of the data set, for the message.
        root: Its folder; None if none is known.
    Raises:
        DataError: No folder is known, or it does not exist.
    """
    hint = f"Give its folder: {name}=PATH; or the folder that holds {name}/: `data_root=PATH`, or {ROOT_VARIABLE}=PATH."
    if root is None:
        raise DataError(f"no folder for the data set {name!r}: no `data_root`, and {ROOT_VARIABLE} is not set", hint)
    if not root.is_dir():
        raise DataError(f"data set {name!r}: {root} is not a folder", hint)
    return root
