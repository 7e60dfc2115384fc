"""CamVid in SegNet's layout: `train/` beside `trainannot/`, and so for every split."""

from __future__ import annotations

from pathlib import Path

from atrous.core.labels import LabelSpace
from atrous.core.records import Note
from atrous.data.classes import select_classes
from atrous.data.contracts import DEFAULT_REQUEST, DataRequest, Splits
from atrous.data.inventory import Inventory, Pair
from atrous.data.pairs import build_pair_splits, find_pairs

CAMVID = LabelSpace(
    names=(
        *("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist"),
    ),
    colours=(
        (128, 128, 128),
        (128, 0, 0),
        (192, 192, 128),
        (128, 64, 128),
        (60, 40, 222),
        (128, 128, 0),
        (192, 128, 128),
        (64, 64, 128),
        (64, 0, 128),
        (64, 64, 0),
        (0, 128, 192),
    ),
    ignored_ids=(11,),
)
"""The 11 classes with SegNet's colours; 11 is void."""


def build_camvid(root: Path, request: DataRequest = DEFAULT_REQUEST) -> Splits:
    """Find the pairs of CamVid.

    Args:
        root: The folder of the data set.
        request: What is wanted; its classes are registered names to keep, or new names by registered id.
    Raises:
        DataError: The folder is missing or has another layout.
        ConfigError: The request has classes that CamVid does not have.
    """
    space, notes = select_classes(CAMVID, request.classes, request.ignore, request.mask_reader.label_map)
    pairs, skipped, inventories = find_segnet_pairs(root, request)
    layout = f"SegNet's ({', '.join(f'{split}/ beside {split}annot/' for split in pairs)})"
    return build_pair_splits(
        root, "camvid", space, pairs, request, layout=layout, notes=(*notes, *skipped), inventories=inventories
    )


def find_segnet_pairs(
    root: Path, request: DataRequest
) -> tuple[dict[str, tuple[Pair, ...]], tuple[Note, ...], tuple[Inventory, ...]]:
    """Pair the files of the wanted splits of SegNet's layout; keys begin with the split, such as "train/0001TP_006690".

    Args:
        root: The folder that holds the splits.
        request: Which splits.
    Returns:
        The pairs of each split, which splits were skipped, and what is in the folders.
    Raises:
        DataError: A split is missing.
    """
    folders = {path.name for path in root.iterdir() if path.is_dir()}
    existing = [name for name in folders if f"{name}annot" in folders]
    images = [name for name in folders if not name.endswith("annot")]
    splits, notes = request.choose_splits(existing, f"{root}, with splits such as train/ beside trainannot/", images)
    pairs, inventories = find_pairs(
        {split: (f"{split}/", root / split, root / f"{split}annot") for split in splits}, request.find_exclusion(root)
    )
    return pairs, notes, inventories
