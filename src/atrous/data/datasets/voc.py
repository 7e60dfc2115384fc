"""PASCAL VOC's layout: `JPEGImages/`, `SegmentationClass/` and the lists in `ImageSets/Segmentation/`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from atrous.core.errors import DataError
from atrous.core.findings import describe_count, shorten_list
from atrous.core.labels import LabelSpace
from atrous.core.records import Note
from atrous.data.classes import Classes, select_classes
from atrous.data.contracts import Splits
from atrous.data.inventory import Pair, list_folder
from atrous.data.pairs import PairDataset, require_folder

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


def build_voc(
    root: Path | None,
    *,
    classes: Classes = None,
    ignore: Sequence[int] = (),
    val_fraction: float = 0.2,
    split_seed: int = 0,
    train_split: str = "train",
    val_split: str = "val",
) -> Splits:
    """Find the pairs of PASCAL VOC.

    Args:
        root: The folder of the data set.
        classes: Registered names to keep, or new names by registered id. Default: all classes.
        ignore: Ids to ignore besides those that the data set ignores.
        val_fraction: No effect: the data set has splits of its own.
        split_seed: No effect likewise.
        train_split: Name of the split to train on.
        val_split: Name of the split to score.
    Raises:
        DataError: The folder or a list is missing, or a listed file is.
        ConfigError: `classes` holds what VOC does not have.
    """
    root = require_folder("voc", root)
    space, notes = select_classes(VOC, classes, ignore)
    train, val = find_voc_pairs(root, (train_split, val_split))
    both = {pair.key for pair in train} & {pair.key for pair in val}
    if both:
        words = f"in both {train_split}.txt and {val_split}.txt: scores are too high"
        notes.append(Note("split-overlap", f"{describe_count(len(both), 'image')} {words}"))
    return Splits(
        PairDataset(f"voc {train_split}", space, train),
        PairDataset(f"voc {val_split}", space, val),
        layout=f"VOC's (ImageSets/Segmentation/{train_split}.txt and {val_split}.txt)",
        notes=tuple(notes),
    )


def find_voc_pairs(root: Path, splits: Sequence[str]) -> list[tuple[Pair, ...]]:
    """Pair the files that each list names, in the order of the list.

    Args:
        root: The folder that holds JPEGImages/, SegmentationClass/ and ImageSets/.
        splits: Names of the lists.
    Raises:
        DataError: A list is missing or empty, or an image or mask that it names is; all missing files at once.
    """
    lists = root / "ImageSets" / "Segmentation"
    absent = [str(lists / f"{split}.txt") for split in splits if not (lists / f"{split}.txt").is_file()]
    if absent:
        have = sorted(path.stem for path in lists.glob("*.txt"))
        raise DataError(
            f"no list {', '.join(absent)}",
            f"Lists here: {', '.join(have) or 'none'}; choose with data.train_split and data.val_split.",
        )
    images, masks = (list_folder(root / name).files for name in ("JPEGImages", "SegmentationClass"))
    found: list[tuple[Pair, ...]] = []
    missing: list[str] = []
    for split in splits:
        keys = list(dict.fromkeys((lists / f"{split}.txt").read_text(encoding="utf-8").split()))
        if not keys:
            raise DataError(f"{lists / f'{split}.txt'}: names no image")
        missing += [f"JPEGImages/{key}" for key in keys if key not in images]
        missing += [f"SegmentationClass/{key}" for key in keys if key not in masks]
        found.append(tuple(Pair(k, images[k][0], masks[k][0]) for k in keys if k in images and k in masks))
    if missing:
        raise DataError(
            f"{describe_count(len(missing), 'file')} of the lists not found in {root}: {shorten_list(missing)}",
            "Add the files, or remove their names from the lists.",
        )
    return found
