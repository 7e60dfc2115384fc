"""What lies in a folder: images, masks, and what pairs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atrous.core.errors import DataError
from atrous.images.decode import IMAGE_SUFFIXES

_SHOWN = 5


@dataclass(frozen=True)
class Pair:
    """An image's file and its mask's, under the key that both names share."""

    key: str
    image: Path
    mask: Path


def find_pairs(folders: Sequence[tuple[str, Path, Path]]) -> list[tuple[Pair, ...]]:
    """Pair images with masks by their path without suffix, sub-folders included; never by order.

    Args:
        folders: For each split: what its keys begin with (such as "train/"), its folder of images, that of masks.

    Returns:
        The pairs of each split, sorted by key.

    Raises:
        DataError: An image without mask, a mask without image, two files of one name, or an empty folder; all
            that was found, in one message.
    """
    splits: list[tuple[Pair, ...]] = []
    problems: list[str] = []
    for prefix, image_folder, mask_folder in folders:
        images, masks = list_files(image_folder), list_files(mask_folder)
        for files in (images, masks):
            doubled = [" and ".join(map(str, paths)) for paths in files.values() if len(paths) > 1]
            problems += _list_problem("of one name", doubled)
        problems += _list_problem("without a mask", [str(images[k][0]) for k in images.keys() - masks.keys()])
        problems += _list_problem("without an image", [str(masks[k][0]) for k in masks.keys() - images.keys()])
        keys = sorted(images.keys() & masks.keys())
        if not keys:
            problems.append(f"not one pair in {image_folder} and {mask_folder}")
        splits.append(tuple(Pair(prefix + key, images[key][0], masks[key][0]) for key in keys))
    if problems:
        raise DataError(
            "images and masks do not pair:\n  " + "\n  ".join(problems),
            "A mask has its image's name and sub-folder, up to the suffix.",
        )
    return splits


def list_files(folder: Path) -> dict[str, list[Path]]:
    """List the images in a folder and its sub-folders by their path without suffix; hidden files are left out."""
    files: dict[str, list[Path]] = {}
    for place, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(place, name)
            if path.suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                files.setdefault(path.relative_to(folder).with_suffix("").as_posix(), []).append(path)
    return files


def shorten_list(lines: Sequence[str]) -> str:
    """Join the first few lines and say how many more there are."""
    more = f", and {len(lines) - _SHOWN:,} more" if len(lines) > _SHOWN else ""
    return ", ".join(lines[:_SHOWN]) + more


def _list_problem(what: str, files: Sequence[str]) -> list[str]:
    return [f"{len(files):,} {what}: {shorten_list(sorted(files))}"] if files else []
