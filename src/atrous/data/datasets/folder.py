"""A folder of the user's own images and masks: as its settings say, or in a layout that is recognised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from atrous.core.findings import Finding, build_error, shorten_list
from atrous.core.records import Note
from atrous.data.class_tables import CLASSES_NAME, read_class_names
from atrous.data.classes import find_classes, name_classes
from atrous.data.contracts import DEFAULT_REQUEST, DataRequest, Splits
from atrous.data.convert.guess import suggest_conversion
from atrous.data.datasets.camvid import find_segnet_pairs
from atrous.data.datasets.voc import find_voc_pairs
from atrous.data.division import read_ids
from atrous.data.file_names import find_beside, find_forms, find_kinds, guess_places
from atrous.data.inventory import STEM, FileSet, Inventory, Pair, list_folder, take_inventory
from atrous.data.pair_list import read_pair_list
from atrous.data.pairs import build_pair_splits, find_pairs
from atrous.data.rasters import cut_rasters, drop_unlabelled

LAYOUTS = """images/ and masks/ (or labels/, annotations/, gt/), with or without train/ and val/ inside both
  train/images/, train/masks/, val/images/, val/masks/
  NAME.jpg beside NAME_mask.png, with or without train/ and val/
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
    splits, cut_notes = cut_rasters(layout.splits, request.page)
    layout = replace(layout, splits=splits, notes=(*layout.notes, *cut_notes))
    notes = list(layout.notes)
    pairs = [pair for split in layout.splits.values() for pair in split]
    ids = None
    if request.classes is None or any(pair.window is not None for pair in pairs):
        found = read_ids(pairs, request.mask_reader, request.progress)
        ids = {pair.key: numbers for pair, numbers in zip(pairs, found, strict=True)}
    named = request.classes if request.classes is not None else _read_class_names(root, layout)
    if named is None:
        declared = request.mask_reader.keep_declared({number for numbers in (ids or {}).values() for number in numbers})
        space = find_classes(declared, request.ignore)
        listed = shorten_list(list(map(str, space.ids)))
        names = ", ".join(f"{number}: NAME" for number in space.ids[:3]) + (", ..." if len(space.ids) > 3 else "")
        message = (
            f"classes not named: the ids found in all masks, {listed}; `set` data.classes='{{{names}}}' names them"
        )
        if space.ids:  # of masks in colour none is known
            notes.append(Note("classes-not-named", message))
    else:
        space = name_classes(named, request.ignore)
    if ids is not None:
        splits, dropped = drop_unlabelled(splits, ids, space)
        notes += dropped
    return build_pair_splits(
        root,
        root.resolve().name,
        space,
        splits,
        request,
        layout=layout.description,
        notes=notes,
        inventories=layout.inventories,
        has_splits=layout.has_splits,
        ids=ids,
    )


def _recognise(root: Path, request: DataRequest) -> _Layout:
    if request.pairs is not None:
        return _read_listed(root, request)
    if request.images is not None and request.masks is not None:
        return _read_named(root, request, FileSet.parse(root, request.images), FileSet.parse(root, request.masks))
    train, val = request.split.train_name, request.split.val_name
    folders = _list_folders(root)
    if {f"{name}annot" for name in (train, val, *SPLIT_NAMES)} & folders:
        message = "SegNet's layout: if this is CamVid, camvid=PATH knows its names, colours and void id"
        pairs, skipped, inventories = find_segnet_pairs(root, request)
        return _Layout("SegNet's", pairs, (Note("looks-like-camvid", message), *skipped), inventories=inventories)
    if {"JPEGImages", "SegmentationClass"} <= folders:
        note = Note("looks-like-voc", "VOC's layout: if this is PASCAL VOC, voc=PATH knows its names and colours")
        if (root / "ImageSets" / "Segmentation").is_dir():
            pairs, skipped, inventories = find_voc_pairs(root, request)
            return _Layout("VOC's", pairs, (note, *skipped), inventories=inventories)
        where = {train: ("", root / "JPEGImages", root / "SegmentationClass")}
        return _pair(root, request, "VOC's without lists", where, note, has_splits=False)
    if (kinds := find_kinds(root)) is not None:
        return _read_kinds(root, request, *kinds)
    found = {name: places for name in sorted(folders) if (places := _find_places(root / name)) is not None}
    if found.keys() & {train, val, *SPLIT_NAMES}:
        splits, notes = request.choose_splits(list(found), f"{root}, with images and masks in each split", folders)
        forms = " and ".join(str(place) for place in found[splits[0]])
        return _pair(
            root,
            request,
            f"{_join(splits)} with {forms} inside",
            {split: (f"{split}/", *found[split]) for split in splits},
            *notes,
        )
    if (beside := find_beside(root)) is not None:
        layout = _read_named(root, request, *beside)
        message = f"images and masks beside each other: images {beside[0]}, masks {beside[1]}"
        return replace(layout, notes=(*layout.notes, Note("template-found", message)))
    listed = [f"{name}/" for name in sorted(folders)]
    guess = guess_places(root)
    likely = (
        f"{guess['images']} and {guess['masks']} look like images and masks; if they are, write that. " if guess else ""
    )
    fix = (
        f"{suggest_conversion(root)}{likely}"
        f"Name the files in data.images and data.masks, such as labels/{STEM}_mask.png. Known are:\n  {LAYOUTS}"
    )
    message = f"{root}: unknown layout; folders inside: {shorten_list(listed) or 'none'}"
    raise build_error([Finding("unknown-layout", "error", 1, message, fix=fix, settings=guess)])


def _read_kinds(root: Path, request: DataRequest, image_name: str, mask_name: str) -> _Layout:
    """Pair images/ with masks/; folders in both that are named as splits are splits, and never mixed."""
    images, masks = root / image_name, root / mask_name
    inside = _list_folders(images), _list_folders(masks)
    names = f"{image_name}/ and {mask_name}/"
    if (inside[0] | inside[1]) & {request.split.train_name, request.split.val_name, *SPLIT_NAMES}:
        place = f"{root}, with splits in {image_name}/ and in {mask_name}/"
        lower = {name.lower(): name for name in sorted(inside[1])}
        both = {name: name if name in inside[1] else lower[name.lower()] for name in inside[0] if name.lower() in lower}
        splits, notes = request.choose_splits(both.keys(), place, inside[0])
        where = {split: (f"{split}/", *_name_files(images / split, masks / both[split])) for split in splits}
        return _pair(root, request, f"{names} with {_join(splits)} inside", where, *notes)
    where = {request.split.train_name: ("", *_name_files(images, masks))}
    return _pair(root, request, f"{names} without splits", where, has_splits=False)


def _read_class_names(root: Path, layout: _Layout) -> Mapping[int, str] | None:
    """Return the names in the `_classes.csv` that Roboflow writes beside images and masks; None if there is none."""
    folders = [root, *(root / split for split in layout.splits)]
    path = next((folder / CLASSES_NAME for folder in folders if (folder / CLASSES_NAME).is_file()), None)
    return read_class_names(path) if path is not None else None


def _read_named(root: Path, request: DataRequest, images: FileSet, masks: FileSet) -> _Layout:
    """Pair the files of two templates; where the stems of all begin with folders named as splits, these are splits."""
    if images.folder == masks.folder and not images.but_not:
        images = replace(images, but_not=masks.pattern)
    (inventory,) = take_inventory([("", images, masks)], request.find_exclusion(root))
    inventory = replace(inventory, unlabelled=request.unlabelled)
    names = {key.partition("/")[0] for key in inventory.images.files.keys() | inventory.masks.files.keys()}
    description = f"images {images}, masks {masks}"
    if names and names <= {request.split.train_name, request.split.val_name, *SPLIT_NAMES}:
        splits, notes = request.choose_splits(names, f"{root}, with splits in the folders of images and masks")
        parts = {split: inventory.keep(f"{split}/") for split in splits}
    else:
        notes, parts = (), {request.split.train_name: inventory}
    pairs = {split: part.pairs for split, part in parts.items()}
    return _Layout(description, pairs, notes, inventory not in parts.values(), tuple(parts.values()))


def _read_listed(root: Path, request: DataRequest) -> _Layout:
    """Read the pairs that a CSV file lists, with their splits if it has such a column."""
    path = root / str(request.pairs)
    found = read_pair_list(path, request.find_exclusion(root))
    if "" not in found.splits:
        splits, notes = request.choose_splits(list(found.splits), f"{path}, with a column of splits")
        pairs = {split: found.splits[split] for split in splits}
        return _Layout(f"pairs of {path.name}", pairs, (*notes, *found.notes))
    return _Layout(f"pairs of {path.name}", {request.split.train_name: found.splits[""]}, found.notes, has_splits=False)


def _find_places(folder: Path) -> tuple[FileSet, FileSet] | None:
    """Return the images and masks of a split, in folders of their own or beside each other; None if there are none."""
    kinds = find_kinds(folder)
    return _name_files(folder / kinds[0], folder / kinds[1]) if kinds is not None else find_beside(folder)


def _name_files(images: Path, masks: Path) -> tuple[FileSet, FileSet]:
    """Return the files of two folders, by the form of their names if that of the masks is another than the images'."""
    forms = find_forms(list_folder(images).files, list_folder(masks).files) or ("", "")
    return FileSet(images, forms[0]), FileSet(masks, forms[1])


def _pair(
    root: Path,
    request: DataRequest,
    description: str,
    folders: Mapping[str, tuple[str, Path | FileSet, Path | FileSet]],
    *notes: Note,
    has_splits: bool = True,
) -> _Layout:
    pairs, inventories = find_pairs(folders, request.find_exclusion(root), request.unlabelled)
    forms = [place for _, *both in folders.values() for place in both if isinstance(place, FileSet) and place.pattern]
    if forms:
        message = f"names of masks differ from those of images: {shorten_list([str(form) for form in forms])}"
        notes = (*notes, Note("template-found", message))
    return _Layout(description, pairs, notes, has_splits, inventories)


def _join(splits: Sequence[str]) -> str:
    return " and ".join(f"{split}/" for split in splits)


def _list_folders(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set()
