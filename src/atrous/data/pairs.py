"""Pictures and masks that lie in files: finding the pairs by name, and the data set over them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atrous.core.errors import DataError
from atrous.core.labels import LabelSpace
from atrous.core.records import Sample
from atrous.data.reading import PICTURE_SUFFIXES, describe_size_mismatch, load_mask, load_picture

_SHOWN = 5


@dataclass(frozen=True)
class Pair:
    """A picture's file and its mask's, under the key that both names share."""

    key: str
    picture: Path
    mask: Path


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
        picture, mask = load_picture(pair.picture), load_mask(pair.mask)
        if picture.shape[:2] != mask.shape:
            raise DataError(
                describe_size_mismatch(pair.picture, pair.mask, mask.shape), "Masks are never resized to fit."
            )
        try:
            labels = self.label_space.encode(mask)
        except DataError as error:
            raise DataError(f"{pair.mask}: {error.message}", error.hint) from error
        return Sample(pair.key, picture, labels)

    def key(self, index: int) -> str:
        """Return the path without suffix that picture and mask share."""
        return self.pairs[index].key

    def mask(self, index: int) -> np.ndarray:
        """Return the raw ids, (H, W)."""
        return load_mask(self.pairs[index].mask)

    def picture_path(self, index: int) -> Path:
        """Return the picture's file."""
        return self.pairs[index].picture

    def mask_path(self, index: int) -> Path:
        """Return the mask's file."""
        return self.pairs[index].mask


def find_pairs(folders: Sequence[tuple[str, Path, Path]]) -> list[tuple[Pair, ...]]:
    """Pair pictures with masks by their path without suffix, sub-folders included; never by order.

    Args:
        folders: For each split: what its keys begin with (such as "train/"), its folder of pictures, that of masks.

    Returns:
        The pairs of each split, sorted by key.

    Raises:
        DataError: A picture without mask, a mask without picture, two files of one name, or an empty folder; all
            that was found, in one message.
    """
    splits: list[tuple[Pair, ...]] = []
    problems: list[str] = []
    for prefix, picture_folder, mask_folder in folders:
        pictures, masks = list_files(picture_folder), list_files(mask_folder)
        for files in (pictures, masks):
            doubled = [" and ".join(map(str, paths)) for paths in files.values() if len(paths) > 1]
            problems += _list_problem("of one name", doubled)
        problems += _list_problem("without a mask", [str(pictures[k][0]) for k in pictures.keys() - masks.keys()])
        problems += _list_problem("without a picture", [str(masks[k][0]) for k in masks.keys() - pictures.keys()])
        keys = sorted(pictures.keys() & masks.keys())
        if not keys:
            problems.append(f"not one pair in {picture_folder} and {mask_folder}")
        splits.append(tuple(Pair(prefix + key, pictures[key][0], masks[key][0]) for key in keys))
    if problems:
        raise DataError(
            "pictures and masks do not pair:\n  " + "\n  ".join(problems),
            "A mask has its picture's name and sub-folder, up to the suffix.",
        )
    return splits


def list_files(folder: Path) -> dict[str, list[Path]]:
    """List the pictures in a folder and its sub-folders by their path without suffix; hidden files are left out."""
    files: dict[str, list[Path]] = {}
    for place, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(place, name)
            if path.suffix.lower() in PICTURE_SUFFIXES and not name.startswith("."):
                files.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    return files


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


def shorten_list(lines: Sequence[str]) -> str:
    """Join the first few lines and say how many more there are."""
    more = f", and {len(lines) - _SHOWN:,} more" if len(lines) > _SHOWN else ""
    return ", ".join(lines[:_SHOWN]) + more


def _list_problem(what: str, files: Sequence[str]) -> list[str]:
    return [f"{len(files):,} {what}: {shorten_list(sorted(files))}"] if files else []
