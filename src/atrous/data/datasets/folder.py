"""A person's own folder of images and masks, in one of four layouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atrous.core.errors import DataError
from atrous.core.labels import LabelSpace
from atrous.data.classes import Classes, find_classes, name_classes
from atrous.data.contracts import Splits
from atrous.data.datasets.camvid import find_segnet_pairs
from atrous.data.datasets.voc import find_voc_pairs
from atrous.data.facts import MaskContent, load_content
from atrous.data.inventory import Pair, find_pairs, shorten_list
from atrous.data.pairs import PairDataset
from atrous.data.split import compute_stratified_split
from atrous.data.statistics import iter_threads

LAYOUTS = """images/ and masks/, with or without train/ and val/ inside both
  train/images/, train/masks/, val/images/, val/masks/
  SegNet's: train/, trainannot/, val/, valannot/
  VOC's: JPEGImages/, SegmentationClass/, ImageSets/Segmentation/*.txt"""


@dataclass(frozen=True)
class _Layout:
    words: str
    splits: list[tuple[Pair, ...]]  # train and val, or all pairs where the folder has no splits of its own
    notes: tuple[str, ...] = ()


def build_folder(
    root: Path | None,
    *,
    classes: Classes = None,
    ignore: Sequence[int] = (255,),
    val_fraction: float = 0.2,
    split_seed: int = 0,
    train_split: str = "train",
    val_split: str = "val",
) -> Splits:
    """Find the pairs of a folder, its splits and its classes; what was assumed is in the notes.

    Args:
        root: The folder.
        classes: Class names; where None, the ids found in all masks are the classes.
        ignore: Ids that are neither trained on nor scored.
        val_fraction: Share held out where the folder has no splits, stratified by class; 0 holds out nothing.
        split_seed: Seed of that choice.
        train_split: Name of the split to train on.
        val_split: Name of the split to score.

    Raises:
        DataError: No known layout, files that do not pair, or masks without two classes.
        ConfigError: An id is both named and ignored.
    """
    if root is None or not root.is_dir():
        raise DataError(f"{root}: no such folder", "Give the folder that holds the images and masks.")
    layout = _recognise(root, train_split, val_split)
    notes = list(layout.notes)
    has_splits = len(layout.splits) == 2
    pairs = [pair for split in layout.splits for pair in split]
    contents = _load_contents(pairs) if classes is None or not has_splits else []
    if classes is None:
        space = find_classes((number for content in contents for number in content.counts), ignore)
        notes.append(f"classes not named: the ids found in all masks, {', '.join(map(str, space.ids))}")
    else:
        space = name_classes(classes, ignore)
    if has_splits:
        train, val = layout.splits
    else:
        train, val = _hold_out(pairs, contents, space, val_fraction, split_seed)
        if not train:
            raise DataError(f"{root}: one pair cannot be split into training and validation", "Add pairs.")
        if val:
            notes.append(
                f"no splits: {len(val):,} of {len(pairs):,} pairs held out for validation, "
                f"stratified by class, seed {split_seed}"
            )
    name = root.resolve().name
    return Splits(
        PairDataset(f"{name} {train_split}", space, train),
        PairDataset(f"{name} {val_split}", space, val),
        layout=layout.words,
        notes=tuple(notes),
    )


def _recognise(root: Path, train: str, val: str) -> _Layout:
    images, masks = root / "images", root / "masks"
    if images.is_dir() and masks.is_dir():
        if _require_both([images / train, masks / train, images / val, masks / val]):
            folders = [(f"{split}/", images / split, masks / split) for split in (train, val)]
            return _Layout(f"images/ and masks/ with {train}/ and {val}/ inside", find_pairs(folders))
        return _Layout("images/ and masks/ without splits", find_pairs([("", images, masks)]))
    if (root / train / "images").is_dir() or (root / val / "images").is_dir():
        _require_both([root / split / kind for split in (train, val) for kind in ("images", "masks")])
        folders = [(f"{split}/", root / split / "images", root / split / "masks") for split in (train, val)]
        return _Layout(f"{train}/ and {val}/ with images/ and masks/ inside", find_pairs(folders))
    if (root / f"{train}annot").is_dir() or (root / f"{val}annot").is_dir():
        note = "SegNet's layout: if this is CamVid, camvid=PATH knows its names, colours and void id"
        return _Layout("SegNet's", find_segnet_pairs(root, (train, val)), (note,))
    if (root / "JPEGImages").is_dir() and (root / "SegmentationClass").is_dir():
        note = "VOC's layout: if this is PASCAL VOC, voc=PATH knows its names and colours"
        if (root / "ImageSets" / "Segmentation").is_dir():
            return _Layout("VOC's", find_voc_pairs(root, (train, val)), (note,))
        folders = [("", root / "JPEGImages", root / "SegmentationClass")]
        return _Layout("VOC's without lists", find_pairs(folders), (note,))
    inside = sorted(path.name + "/" for path in root.iterdir() if path.is_dir())
    raise DataError(
        f"{root}: no layout that is known; folders inside: {shorten_list(inside) or 'none'}", f"Known are:\n  {LAYOUTS}"
    )


def _require_both(folders: Sequence[Path]) -> bool:
    """Say whether the split folders are there; some without the others would mix what was meant to be apart."""
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing and len(missing) < len(folders):
        siblings = sorted(
            {path.name for folder in folders if folder.parent.is_dir() for path in folder.parent.iterdir()}
        )
        raise DataError(
            f"splits without all of their folders: no {', '.join(missing)}",
            f"There is {shorten_list(siblings)}; names are set by data.train_split and data.val_split.",
        )
    return not missing


def _load_contents(pairs: Sequence[Pair]) -> list[MaskContent]:
    results = list(iter_threads(load_content, [pair.mask for pair in pairs], "reading the masks"))
    errors = [result.message for result in results if isinstance(result, DataError)]
    if errors:
        raise DataError(
            f"{len(errors):,} masks cannot be used: {shorten_list(errors)}",
            next(result.hint for result in results if isinstance(result, DataError)),
        )
    return [result for result in results if not isinstance(result, DataError)]


def _hold_out(
    pairs: Sequence[Pair], contents: Sequence[MaskContent], space: LabelSpace, fraction: float, seed: int
) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    classes = [content.counts.keys() & set(space.ids) for content in contents]
    chosen = set(compute_stratified_split(classes, fraction, seed))
    train = tuple(pair for index, pair in enumerate(pairs) if index not in chosen)
    return train, tuple(pair for index, pair in enumerate(pairs) if index in chosen)
