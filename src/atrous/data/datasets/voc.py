"""PASCAL VOC's layout: `JPEGImages/`, `SegmentationClass/` and the lists in `ImageSets/Segmentation/`."""

from __future__ import annotations

from pathlib import Path

from atrous.core.errors import DataError
from atrous.core.findings import shorten_list
from atrous.core.labels import LabelSpace
from atrous.core.records import Note
from atrous.core.words import describe_count
from atrous.data.checks.folders import list_excluded
from atrous.data.classes import select_classes
from atrous.data.contracts import DEFAULT_REQUEST, DataRequest, Splits
from atrous.data.inventory import Pair, take_inventory
from atrous.data.pairs import build_pair_splits, require_single_files

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
    space, notes = select_classes(VOC, request.classes, request.ignore)
    pairs, skipped = find_voc_pairs(root, request)
    lists = " and ".join(f"{split}.txt" for split in pairs)
    return build_pair_splits(
        root, "voc", space, pairs, request, layout=f"VOC's (ImageSets/Segmentation/{lists})", notes=(*notes, *skipped)
    )


def find_voc_pairs(root: Path, request: DataRequest) -> tuple[dict[str, tuple[Pair, ...]], tuple[Note, ...]]:
    """Pair the files that each of the wanted lists names, in the order of the list; and say which lists are skipped.

    Args:
        root: The folder that holds JPEGImages/, SegmentationClass/ and ImageSets/.
        request: Which lists; for every pair, lists without names do not count.
    Raises:
        DataError: A list is missing or empty, an image or mask that it names is missing, or several files have its
            name; all files at once.
    """
    folder = root / "ImageSets" / "Segmentation"
    existing = [path.stem for path in folder.glob("*.txt") if not request.every_pair or _read_list(path)]
    splits, notes = request.choose_splits(existing, f"{folder}, with lists such as train.txt")
    keys = {split: _read_list(folder / f"{split}.txt") for split in splits}
    empty = [str(folder / f"{split}.txt") for split in splits if not keys[split]]
    if empty:
        raise DataError(f"{' and '.join(empty)}: no image named", "Write the names of the images, one a line.")
    (inventory,) = take_inventory([("", root / "JPEGImages", root / "SegmentationClass")], request.find_exclusion(root))
    images, masks = inventory.images.files, inventory.masks.files
    left_out = inventory.images.excluded.keys() - images.keys()
    keys = {split: [key for key in names if key not in left_out] for split, names in keys.items()}
    listed = list(dict.fromkeys(key for split in splits for key in keys[split]))
    missing = [
        f"{name}/{key}"
        for name, files in (("JPEGImages", images), ("SegmentationClass", masks))
        for key in listed
        if key not in files
    ]
    if missing:
        raise DataError(
            f"{describe_count(len(missing), 'file')} of the lists not found in {root}: {shorten_list(missing)}",
            "Add the files, or remove their names from the lists.",
        )
    require_single_files([files[key] for key in listed for files in (images, masks)])
    pairs = {split: tuple(Pair(key, images[key][0], masks[key][0]) for key in keys[split]) for split in splits}
    return pairs, (*notes, *(finding.to_note() for finding in list_excluded([inventory])))


def _read_list(path: Path) -> list[str]:
    try:
        return list(dict.fromkeys(path.read_text(encoding="utf-8-sig").split()))
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text", "Save the list as UTF-8, one name a line.") from error
