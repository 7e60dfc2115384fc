"""CamVid in SegNet's layout: `train/` beside `trainannot/`, and so for every split."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from atrous.core.errors import DataError
from atrous.core.labels import LabelSpace
from atrous.core.records import Note
from atrous.data.classes import Classes, select_classes
from atrous.data.contracts import Splits
from atrous.data.inventory import Pair
from atrous.data.pairs import PairDataset, find_pairs, require_folder

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


def build_camvid(
    root: Path | None,
    *,
    classes: Classes = None,
    ignore: Sequence[int] = (),
    val_fraction: float = 0.2,
    split_seed: int = 0,
    train_split: str = "train",
    val_split: str = "val",
) -> Splits:
    """Find the pairs of CamVid.

    Args:
        root: The folder of the data set.
        classes: Registered names to keep, or new names by registered id. Default: all classes.
        ignore: Ids to ignore besides those that the data set ignores.
        val_fraction: No effect: the data set has splits of its own.
        split_seed: No effect likewise.
        train_split: Name of the split to train on.
        val_split: Name of the split to score.
    Raises:
        DataError: The folder is missing or has another layout, or files do not pair.
        ConfigError: `classes` holds what CamVid does not have.
    """
    root = require_folder("camvid", root)
    space, notes = select_classes(CAMVID, classes, ignore)
    (train, val), skipped = find_segnet_pairs(root, (train_split, val_split))
    return Splits(
        PairDataset(f"camvid {train_split}", space, train),
        PairDataset(f"camvid {val_split}", space, val),
        layout=f"SegNet's ({train_split}/ beside {train_split}annot/)",
        notes=(*notes, *skipped),
    )


def find_segnet_pairs(root: Path, splits: Sequence[str]) -> tuple[list[tuple[Pair, ...]], list[Note]]:
    """Pair the files of some splits of SegNet's layout; keys begin with the split, such as "train/0001TP_006690".

    Args:
        root: The folder that holds the splits.
        splits: Names of the splits.
    Returns:
        The pairs of each split, and what was skipped.
    Raises:
        DataError: A folder is missing, or files do not pair.
    """
    missing = [str(root / name) for split in splits for name in (split, f"{split}annot") if not (root / name).is_dir()]
    if missing:
        have = sorted(path.name for path in root.iterdir() if (root / f"{path.name}annot").is_dir())
        raise DataError(
            f"no folder {', '.join(missing)}",
            f"Splits here: {', '.join(have) or 'none'}; see data.train_split and data.val_split.",
        )
    return find_pairs([(f"{split}/", root / split, root / f"{split}annot") for split in splits])
