"""Cityscapes in its own layout: `leftImg8bit/SPLIT/CITY/` beside `gtFine/SPLIT/CITY/`."""

from __future__ import annotations

from pathlib import Path

from atrous.core.labels import LabelSpace
from atrous.data.classes import select_classes
from atrous.data.contracts import DEFAULT_REQUEST, DataRequest, Splits
from atrous.data.inventory import STEM, FileSet, Inventory, take_inventory
from atrous.data.pairs import build_pair_splits

_FOLDERS = ("leftImg8bit", "gtFine")
IMAGE_END, MASK_END = "_leftImg8bit", "_gtFine_labelIds"

_CLASSES = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
_IDS = tuple(number for number, _, _ in _CLASSES)

CITYSCAPES = LabelSpace(
    names=tuple(name for _, name, _ in _CLASSES),
    ids=_IDS,
    colours=tuple(colour for _, _, colour in _CLASSES),
    ignored_ids=(*(number for number in range(34) if number not in _IDS), 255),
)
"""The 19 scored classes with the ids of the mask files (0 to 33) and their colours; the index of a class is its train
id in the benchmark. The other ids are void or too rare to be scored."""


def build_cityscapes(root: Path, request: DataRequest = DEFAULT_REQUEST) -> Splits:
    """Find the pairs of Cityscapes.

    Args:
        root: The folder of the data set.
        request: What is wanted; its classes are registered names to keep, or new names by registered id.
    Raises:
        DataError: The folder is missing or has another layout.
        ConfigError: The request has classes that Cityscapes does not have.
    """
    space, notes = select_classes(CITYSCAPES, request.classes, request.ignore, request.mask_reader.label_map)
    images, masks = ({path.name for path in (root / kind).glob("*") if path.is_dir()} for kind in _FOLDERS)
    splits, skipped = request.choose_splits(
        images & masks, f"{root}, with splits in leftImg8bit/ and in gtFine/", images
    )
    inventories = {split: take_cityscapes_inventory(root, split, request) for split in splits}
    pairs = {split: inventory.pairs for split, inventory in inventories.items()}
    layout = f"Cityscapes' (leftImg8bit/ and gtFine/, {' and '.join(splits)})"
    return build_pair_splits(
        root,
        "cityscapes",
        space,
        pairs,
        request,
        layout=layout,
        notes=(*notes, *skipped),
        inventories=tuple(inventories.values()),
    )


def take_cityscapes_inventory(root: Path, split: str, request: DataRequest = DEFAULT_REQUEST) -> Inventory:
    """List the files of a split; keys are such as "val/frankfurt/frankfurt_000000_000294".

    Args:
        root: The folder that holds leftImg8bit/ and gtFine/.
        split: Name of the split.
        request: What is wanted.
    """
    images, masks = (
        FileSet(root / kind / split, STEM + end) for kind, end in zip(_FOLDERS, (IMAGE_END, MASK_END), strict=True)
    )
    return take_inventory([(f"{split}/", images, masks)], request.find_exclusion(root))[0]
