"""A folder of the user's own images and masks, in one of four layouts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from atrous.core.errors import DataError
from atrous.core.findings import shorten_list
from atrous.core.labels import LabelSpace
from atrous.core.records import Note, Progress
from atrous.core.words import describe_count
from atrous.data.classes import find_classes, name_classes
from atrous.data.contracts import DEFAULT_REQUEST, DataRequest, Splits
from atrous.data.datasets.camvid import find_segnet_pairs
from atrous.data.datasets.voc import find_voc_pairs
from atrous.data.facts import iter_threads
from atrous.data.facts_cache import FactsCache
from atrous.data.inventory import Inventory, Pair
from atrous.data.pairs import build_pair_splits, find_pairs
from atrous.data.split import compute_stratified_split

LAYOUTS = """images/ and masks/, with or without train/ and val/ inside both
  train/images/, train/masks/, val/images/, val/masks/
  SegNet's: train/, trainannot/, val/, valannot/
  VOC's: JPEGImages/, SegmentationClass/, ImageSets/Segmentation/*.txt"""


SPLIT_NAMES = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})
"""Folders inside images/ and masks/ that are splits, never a kind of image."""


@dataclass(frozen=True)
class _Layout:
    """How a folder is laid out.

    Args:
        description: The layout as text.
        splits: The pairs of each split, or all pairs under the name of the split to train on if there are none.
        notes: What the user should know.
        has_splits: Whether the folder has splits of its own.
        inventories: What is in the folders that were paired.
    """

    description: str
    splits: dict[str, tuple[Pair, ...]]
    notes: tuple[Note, ...] = ()
    has_splits: bool = True
    inventories: tuple[Inventory, ...] = ()


def build_folder(root: Path, request: DataRequest = DEFAULT_REQUEST) -> Splits:
    """Find the pairs of a folder, its splits and its classes; the notes of the result say what was assumed.

    Args:
        root: The folder.
        request: What is wanted.
    Raises:
        DataError: No known layout, or a split is missing.
        ConfigError: An id is both named and ignored.
    """
    layout = _recognise(root, request)
    notes = list(layout.notes)
    pairs = [pair for split in layout.splits.values() for pair in split]
    is_held_out = not layout.has_splits and not request.every_pair
    masks = _read_ids(pairs, request) if request.classes is None or is_held_out else []
    if request.classes is None:
        declared = request.mask_reader.keep_declared({number for mask in masks for number in mask})
        space = find_classes(declared, request.ignore)
        found = ", ".join(map(str, space.ids))
        names = ", ".join(f"{number}: NAME" for number in space.ids[:3]) + (", ..." if len(space.ids) > 3 else "")
        message = f"classes not named: the ids found in all masks, {found}; `set` data.classes='{{{names}}}' names them"
        notes.append(Note("classes-not-named", message))
    else:
        space = name_classes(request.classes, request.ignore)
    splits = layout.splits
    if is_held_out:
        train, val = _hold_out(pairs, masks, space, request)
        share = f"{len(val):,} of {describe_count(len(pairs), 'pair')}"
        message = f"no splits: {share} held out for validation, stratified by class, seed {request.split_seed}"
        notes.append(Note("held-out", message))
        splits = {request.train_split: train, request.val_split: val}
    return build_pair_splits(
        root.resolve().name,
        space,
        splits,
        request,
        layout=layout.description,
        notes=notes,
        inventories=layout.inventories,
    )


def _recognise(root: Path, request: DataRequest) -> _Layout:
    train, val = request.train_split, request.val_split
    folders = _list_folders(root)
    if {"images", "masks"} <= folders:
        return _read_images_and_masks(root, request)
    inside = {name for name in folders if {"images", "masks"} & _list_folders(root / name)}
    if inside & {train, val, *SPLIT_NAMES}:
        existing = [name for name in inside if {"images", "masks"} <= _list_folders(root / name)]
        splits, notes = request.choose_splits(existing, f"{root}, with images/ and masks/ in each split")
        where = {split: (f"{split}/", root / split / "images", root / split / "masks") for split in splits}
        return _pair(root, request, f"{_join(splits)} with images/ and masks/ inside", where, *notes)
    if {f"{name}annot" for name in (train, val, *SPLIT_NAMES)} & folders:
        message = "SegNet's layout: if this is CamVid, camvid=PATH knows its names, colours and void id"
        pairs, skipped, inventories = find_segnet_pairs(root, request)
        return _Layout("SegNet's", pairs, (Note("looks-like-camvid", message), *skipped), inventories=inventories)
    if {"JPEGImages", "SegmentationClass"} <= folders:
        note = Note("looks-like-voc", "VOC's layout: if this is PASCAL VOC, voc=PATH knows its names and colours")
        if (root / "ImageSets" / "Segmentation").is_dir():
            pairs, skipped = find_voc_pairs(root, request)
            return _Layout("VOC's", pairs, (note, *skipped))
        where = {train: ("", root / "JPEGImages", root / "SegmentationClass")}
        return _pair(root, request, "VOC's without lists", where, note, has_splits=False)
    listed = [f"{name}/" for name in sorted(folders)]
    raise DataError(
        f"{root}: unknown layout; folders inside: {shorten_list(listed) or 'none'}", f"Known layouts are:\n  {LAYOUTS}"
    )


def _read_images_and_masks(root: Path, request: DataRequest) -> _Layout:
    """Pair images/ with masks/; folders in both that are named as splits are splits, and never mixed."""
    images, masks = root / "images", root / "masks"
    inside = _list_folders(images), _list_folders(masks)
    if (inside[0] | inside[1]) & {request.train_split, request.val_split, *SPLIT_NAMES}:
        place = f"{root}, with splits in images/ and in masks/"
        splits, notes = request.choose_splits(inside[0] & inside[1], place)
        where = {split: (f"{split}/", images / split, masks / split) for split in splits}
        return _pair(root, request, f"images/ and masks/ with {_join(splits)} inside", where, *notes)
    where = {request.train_split: ("", images, masks)}
    return _pair(root, request, "images/ and masks/ without splits", where, has_splits=False)


def _pair(
    root: Path,
    request: DataRequest,
    description: str,
    folders: Mapping[str, tuple[str, Path, Path]],
    *notes: Note,
    has_splits: bool = True,
) -> _Layout:
    pairs, inventories = find_pairs(folders, request.find_exclusion(root))
    return _Layout(description, pairs, notes, has_splits, inventories)


def _join(splits: Sequence[str]) -> str:
    return " and ".join(f"{split}/" for split in splits)


def _list_folders(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set()


def _read_ids(pairs: Sequence[Pair], request: DataRequest) -> list[Collection[int]]:
    """Return the ids in each mask; none of a mask that cannot be read, which the checks of the data report."""

    def read(pair: Pair) -> Collection[int]:
        try:
            return request.mask_reader.read_facts(pair.mask, cache).counts
        except DataError:
            return ()

    found: list[Collection[int]] = []
    with FactsCache() as cache:
        for ids in iter_threads(read, pairs):
            found.append(ids)
            if request.progress is not None:
                request.progress(Progress("reading masks", len(found), len(pairs)))
    return found


def _hold_out(
    pairs: Sequence[Pair], masks: Sequence[Collection[int]], space: LabelSpace, request: DataRequest
) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    classes = [set(mask) & set(space.ids) for mask in masks]
    chosen = set(compute_stratified_split(classes, request.val_fraction, request.split_seed))
    train = tuple(pair for index, pair in enumerate(pairs) if index not in chosen)
    return train, tuple(pair for index, pair in enumerate(pairs) if index in chosen)
