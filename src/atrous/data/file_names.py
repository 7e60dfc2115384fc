"""How people name folders, images and masks: one template that explains all masks of a folder, if there is one."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from itertools import permutations
from pathlib import Path

from atrous.data.inventory import STEM, FileSet, list_folder

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "img_dir", "photos", "rgb")
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "ann_dir", "gt", "groundtruth", "ground_truth"),
    *("segmentations", "segmentation", "seg", "targets"),
)
"""Usual names of folders, the more frequent ones first; capital letters do not matter."""

MOST_GUESSED = 16
"""With more folders beside each other, no two are guessed to be images and masks."""
_IMAGE_FORMS = (STEM, *(f"{STEM}{mark}{word}" for mark in "_-" for word in ("image", "img", "rgb", "sat", "0000")))
_MASK_WORDS = ("mask", "masks", "label", "labels", "seg", "segmentation", "gt", "groundtruth", "annotation")
_MASK_FORMS = tuple(form for word in _MASK_WORDS for mark in "_-." for form in (STEM + mark + word, word + mark + STEM))


def find_kinds(folder: Path) -> tuple[str, str] | None:
    """Return the names of the folders of images and of masks inside a folder; None if there are none of usual names."""
    if not folder.is_dir():
        return None
    names = {path.name.lower(): path.name for path in sorted(folder.iterdir(), reverse=True) if path.is_dir()}
    images, masks = (next((name for name in usual if name in names), "") for usual in (IMAGE_FOLDERS, MASK_FOLDERS))
    return (names[images], names[masks]) if images and masks else None


def find_forms(images: Collection[str], masks: Collection[str]) -> tuple[str, str] | None:
    """Find how the names of images and masks differ, such as ("{stem}", "{stem}_mask").

    Args:
        images: Paths of the images without suffix.
        masks: Paths of the masks likewise.
    Returns:
        The forms by which each mask has its image; None if names are equal, or if no form explains all masks.
    """
    if not masks or not {*images}.isdisjoint(masks):
        return None
    for image_form in _IMAGE_FORMS:
        stems = {stem for name in images if (stem := _strip(name, image_form)) is not None}
        for mask_form in dict.fromkeys(_guess_forms(min(masks, key=len), stems)):
            if {_strip(name, mask_form) for name in masks} <= stems:
                return image_form, mask_form
    return None


def find_beside(folder: Path) -> tuple[FileSet, FileSet] | None:
    """Find images and masks that share a folder: masks have an ending of their own, or images alone are JPEGs.

    Args:
        folder: The folder.
    Returns:
        The images and the masks; None if the names do not tell them apart.
    """
    listing = list_folder(folder).keep(lambda name: "/" not in name)
    files = listing.files
    for form in _MASK_FORMS:
        masks = {name for name in files if _strip(name, form) in files}
        if masks and 4 * len(masks) >= len(files):  # a few images may have no mask
            return FileSet(folder, "*", but_not=form), FileSet(folder, form)
    photos = next((suffix for suffix in map(_find_suffix, listing.all_files) if suffix.lower() != ".png"), "")
    kinds = ({".jpg", ".png"}, {".jpeg", ".png"})
    if _list_suffixes(listing.all_files) in kinds and any(
        _list_suffixes(each) in kinds for each in listing.doubled.values()
    ):
        return FileSet(folder, f"*{photos}"), FileSet(folder, "*.png")
    return None


def guess_places(root: Path) -> dict[str, str]:
    """Guess which two folders hold images and masks where their names do not say it.

    Args:
        root: The folder that holds both.
    Returns:
        The keys `images` and `masks` of an atrous.yaml; empty unless exactly two folders fit.
    """
    folders = [path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    if len(folders) > MOST_GUESSED:
        return {}
    listed = {folder.name: listing for folder in folders if (listing := list_folder(folder)).files}
    guesses = []
    for (images, of_images), (masks, of_masks) in permutations(listed.items(), 2):
        suffixes = _list_suffixes(of_masks.all_files)
        if forms := find_forms(of_images.files, of_masks.files):
            ending = suffixes.pop() if len(suffixes) == 1 else ".*"
            named = images if forms[0] == STEM else f"{images}/{forms[0]}.*"
            guesses.append({"images": named, "masks": f"{masks}/{forms[1]}{ending}"})
        elif (
            suffixes == {".png"}
            and not suffixes & _list_suffixes(of_images.all_files)
            and (of_masks.files.keys() & of_images.files.keys())
        ):
            guesses.append({"images": images, "masks": masks})
    return guesses[0] if len(guesses) == 1 else {}


def _list_suffixes(files: Iterable[str]) -> set[str]:
    return {_find_suffix(file).lower() for file in files}


def _find_suffix(file: str) -> str:
    return os.path.splitext(file)[1]


def _guess_forms(mask: str, stems: Collection[str]) -> Iterator[str]:
    """Yield the forms by which one mask belongs to an image, those that change the name least first."""
    folder, _, name = mask.rpartition("/")
    found = []
    for parent, _, stem in (stem.rpartition("/") for stem in stems):
        if parent == folder and len(stem) < len(name):
            affix = len(name) - len(stem)
            if name.startswith(stem):
                found.append((affix, STEM + name[len(stem) :]))
            if name.endswith(stem):
                found.append((affix, name[:affix] + STEM))
    yield from (form for _, form in sorted(found) if any(map(str.isalpha, form.replace(STEM, ""))))


def _strip(name: str, form: str) -> str | None:
    """Return what a form calls the stem of a name, with its folder; None if the name has another form."""
    folder, slash, last = name.rpartition("/")
    start, _, end = form.partition(STEM)
    if not (last.startswith(start) and last.endswith(end) and len(last) > len(start) + len(end)):
        return None
    return f"{folder}{slash}{last[len(start) : len(last) - len(end)]}"
