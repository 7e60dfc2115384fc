"""A folder of the user's own images and masks, in one of four layouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atrous.core.errors import DataError
from atrous.core.findings import describe_count, shorten_list
from atrous.core.labels import LabelSpace
from atrous.core.records import Note
from atrous.data.classes import Classes, find_classes, name_classes
from atrous.data.contracts import Splits
from atrous.data.datasets.camvid import find_segnet_pairs
from atrous.data.datasets.voc import find_voc_pairs
from atrous.data.facts import iter_threads
from atrous.data.facts_cache import FactsCache, MaskFacts
from atrous.data.inventory import Pair
from atrous.data.pairs import PairDataset, find_pairs
from atrous.data.split import compute_stratified_split

LAYOUTS = """images/ and masks/, with or without train/ and val/ inside both
  train/images/, train/masks/, val/images/, val/masks/
  SegNet's: train/, trainannot/, val/, valannot/
  VOC's: JPEGImages/, SegmentationClass/, ImageSets/Segmentation/*.txt"""


@dataclass(frozen=True)
class _Layout:
    """How a folder is laid out.

    Args:
        description: The layout as text.
        splits: The pairs of train and val, or all pairs if the folder has no splits of its own.
        notes: What the user should know.
    """

    description: str
    splits: list[tuple[Pair, ...]]
    notes: tuple[Note, ...] = ()


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
    """Find the pairs of a folder, its splits and its classes; the notes of the result say what was assumed.

    Args:
        root: The folder.
        classes: Class names. Default: one class for each id found in the masks.
        ignore: Ids that are neither trained on nor scored.
        val_fraction: Share held out for validation if the folder has no splits, stratified by class; 0 for none.
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
    masks = _read_masks(pairs) if classes is None or not has_splits else []
    if classes is None:
        space = find_classes((number for mask in masks for number in mask.counts), ignore)
        found = ", ".join(map(str, space.ids))
        notes.append(Note("classes-not-named", f"classes not named: the ids found in all masks, {found}"))
    else:
        space = name_classes(classes, ignore)
    if has_splits:
        train, val = layout.splits
    else:
        train, val = _hold_out(pairs, masks, space, val_fraction, split_seed)
        if not train:
            raise DataError(f"{root}: one pair cannot be split into training and validation", "Add pairs.")
        if val:
            share = f"{len(val):,} of {describe_count(len(pairs), 'pair')}"
            message = f"no splits: {share} held out for validation, stratified by class, seed {split_seed}"
            notes.append(Note("held-out", message))
    name = root.resolve().name
    return Splits(
        PairDataset(f"{name} {train_split}", space, train),
        PairDataset(f"{name} {val_split}", space, val),
        layout=layout.description,
        notes=tuple(notes),
    )


def _recognise(root: Path, train: str, val: str) -> _Layout:
    images, masks = root / "images", root / "masks"
    if images.is_dir() and masks.is_dir():
        if _has_splits([images / train, masks / train, images / val, masks / val]):
            folders = [(f"{split}/", images / split, masks / split) for split in (train, val)]
            return _pair(f"images/ and masks/ with {train}/ and {val}/ inside", folders)
        return _pair("images/ and masks/ without splits", [("", images, masks)])
    if (root / train / "images").is_dir() or (root / val / "images").is_dir():
        _has_splits([root / split / kind for split in (train, val) for kind in ("images", "masks")])
        folders = [(f"{split}/", root / split / "images", root / split / "masks") for split in (train, val)]
        return _pair(f"{train}/ and {val}/ with images/ and masks/ inside", folders)
    if (root / f"{train}annot").is_dir() or (root / f"{val}annot").is_dir():
        message = "SegNet's layout: if this is CamVid, camvid=PATH knows its names, colours and void id"
        note = Note("looks-like-camvid", message)
        splits, skipped = find_segnet_pairs(root, (train, val))
        return _Layout("SegNet's", splits, (note, *skipped))
    if (root / "JPEGImages").is_dir() and (root / "SegmentationClass").is_dir():
        note = Note("looks-like-voc", "VOC's layout: if this is PASCAL VOC, voc=PATH knows its names and colours")
        if (root / "ImageSets" / "Segmentation").is_dir():
            return _Layout("VOC's", find_voc_pairs(root, (train, val)), (note,))
        return _pair("VOC's without lists", [("", root / "JPEGImages", root / "SegmentationClass")], note)
    inside = sorted(path.name + "/" for path in root.iterdir() if path.is_dir())
    raise DataError(
        f"{root}: unknown layout; folders inside: {shorten_list(inside) or 'none'}", f"Known layouts are:\n  {LAYOUTS}"
    )


def _pair(description: str, folders: Sequence[tuple[str, Path, Path]], *notes: Note) -> _Layout:
    splits, skipped = find_pairs(folders)
    return _Layout(description, splits, (*notes, *skipped))


def _has_splits(folders: Sequence[Path]) -> bool:
    """Whether the folders of the splits exist; some without the others would mix what was meant to be separate."""
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing and len(missing) < len(folders):
        siblings = sorted(
            {path.name for folder in folders if folder.parent.is_dir() for path in folder.parent.iterdir()}
        )
        raise DataError(
            f"splits with missing folders: no {', '.join(missing)}",
            f"There is {shorten_list(siblings)}; data.train_split and data.val_split set the names.",
        )
    return not missing


def _read_masks(pairs: Sequence[Pair]) -> list[MaskFacts]:
    def read(pair: Pair) -> MaskFacts | DataError:
        try:
            return cache.read_mask(pair.mask)
        except DataError as error:
            return error

    with FactsCache() as cache:
        results = list(iter_threads(read, pairs))
    errors = [result for result in results if isinstance(result, DataError)]
    if errors:
        raise DataError(
            f"{describe_count(len(errors), 'mask')} that cannot be read: "
            f"{shorten_list([error.message for error in errors])}",
            " ".join(dict.fromkeys(error.hint for error in errors if error.hint)),
        )
    return [result for result in results if not isinstance(result, DataError)]


def _hold_out(
    pairs: Sequence[Pair], masks: Sequence[MaskFacts], space: LabelSpace, fraction: float, seed: int
) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    classes = [mask.counts.keys() & set(space.ids) for mask in masks]
    chosen = set(compute_stratified_split(classes, fraction, seed))
    train = tuple(pair for index, pair in enumerate(pairs) if index not in chosen)
    return train, tuple(pair for index, pair in enumerate(pairs) if index in chosen)
