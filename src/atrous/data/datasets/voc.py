"""PASCAL VOC's layout: `JPEGImages/`, `SegmentationClass/` and the lists in `ImageSets/Segmentation/`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from atrous.core.errors import DataError
from atrous.core.findings import shorten_list
from atrous.core.labels import LabelSpace
from atrous.core.records import Note
from atrous.core.words import describe_count
from atrous.data.classes import select_classes
from atrous.data.contracts import DEFAULT_REQUEST, DataRequest, Splits
from atrous.data.inventory import FolderListing, Inventory, Pair, take_inventory
from atrous.data.pairs import build_pair_splits

VOC = LabelSpace(
    names=(
        *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
        *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
    ),
    colours=(
        *((0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)),
        *((128, 128, 128), (64, 0, 0), (192, 0, 0), (64, 128, 0), (192, 128, 0), (64, 0, 128), (192, 0, 128)),
        *((64, 128, 128), (192, 128, 128), (0, 64, 0), (128, 64, 0), (0, 192, 0), (128, 192, 0), (0, 64, 128)),
    ),
    ignored_ids=(255,),
)
"""The 21 classes with VOC's colours; 255 is the void around objects."""


def build_voc(root: Path, request: DataRequest = DEFAULT_REQUEST) -> Splits:
    """Find the pairs of PASCAL VOC.

    Args:
        root: The folder of the data set.
        request: What is wanted; its classes are registered names to keep, or new names by registered id.
    Raises:
        DataError: The folder or a list is missing, or a listed file is.
        ConfigError: The request has classes that VOC does not have.
    """
    space, notes = select_classes(VOC, request.classes, request.ignore, request.mask_reader.label_map)
    pairs, skipped, inventories = find_voc_pairs(root, request)
    lists = " and ".join(f"{split}.txt" for split in pairs)
    return build_pair_splits(
        root,
        "voc",
        space,
        pairs,
        request,
        layout=f"VOC's (ImageSets/Segmentation/{lists})",
        notes=(*notes, *skipped),
        inventories=inventories,
    )


def find_voc_pairs(
    root: Path, request: DataRequest
) -> tuple[dict[str, tuple[Pair, ...]], tuple[Note, ...], tuple[Inventory, ...]]:
    """Pair the files that each of the wanted lists names, in the order of the list; and say which lists are skipped.

    What of a listed name has no partner is in the inventories.

    Args:
        root: The folder that holds JPEGImages/, SegmentationClass/ and ImageSets/.
        request: Which lists; for every pair, lists without names do not count.
    Raises:
        DataError: A list is missing or empty, or names files of which neither an image nor a mask exists; all at once.
    """
    folder = root / "ImageSets" / "Segmentation"
    existing = [
        path.stem for path in folder.glob("*.txt") if not (request.every_pair or request.only_test) or _read_list(path)
    ]
    splits, notes = request.choose_splits(existing, f"{folder}, with lists such as train.txt")
    keys = {split: _read_list(folder / f"{split}.txt") for split in splits}
    empty = [str(folder / f"{split}.txt") for split in splits if not keys[split]]
    if empty:
        hint = "Write the names of the images, one a line."
        raise DataError(f"{' and '.join(empty)}: no image named", hint, "empty-split")
    (inventory,) = take_inventory([("", root / "JPEGImages", root / "SegmentationClass")], request.find_exclusion(root))
    images, masks = inventory.images.files, inventory.masks.files
    left_out = (inventory.images.excluded.keys() | inventory.masks.excluded.keys()) - (images.keys() | masks.keys())
    keys = {split: [key for key in names if key not in left_out] for split, names in keys.items()}
    missing = [key for names in keys.values() for key in names if key not in images and key not in masks]
    if missing:
        raise DataError(
            f"{describe_count(len(missing), 'name')} of the lists without a file in JPEGImages/ or SegmentationClass/ "
            f"of {root}: {shorten_list(list(dict.fromkeys(missing)))}",
            "Add the files, or remove their names from the lists.",
        )
    inventories = tuple(
        _keep_listed(inventory, {*names}, is_first=not number) for number, names in enumerate(keys.values())
    )
    pairs = {
        split: tuple(Pair(key, images[key], masks[key]) for key in names if key in images and key in masks)
        for split, names in keys.items()
    }
    return pairs, notes, inventories


def _keep_listed(inventory: Inventory, keys: set[str], *, is_first: bool) -> Inventory:
    """Return the part of an inventory that a list names; what is skipped is in that of the first list."""
    images, masks = (
        replace(listing, files=kept.files, doubled=kept.doubled)
        if is_first
        else FolderListing(listing.folder, kept.files, kept.doubled)
        for listing in (inventory.images, inventory.masks)
        for kept in (listing.keep(keys.__contains__),)
    )
    return replace(inventory, images=images, masks=masks)


def _read_list(path: Path) -> list[str]:
    try:
        return list(dict.fromkeys(path.read_text(encoding="utf-8-sig").split()))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text", "Save the list as UTF-8, one name a line.") from error
