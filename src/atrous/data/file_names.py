"""How people name folders, images and masks: one template that explains all masks of a folder, if there is one."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import permutations
from pathlib import Path, PurePosixPath

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
    files = {name: paths for name, paths in list_folder(folder).files.items() if "/" not in name}
    for form in _MASK_FORMS:
        masks = {name for name in files if _strip(name, form) in files}
        if masks and 4 * len(masks) >= len(files):  # a few images may have no mask
            return FileSet(folder, "*", but_not=form), FileSet(folder, form)
    suffixes = [{path.suffix.lower() for path in paths} for paths in files.values()]
    if any(len(found) == 2 for found in suffixes) and set().union(*suffixes) in ({".jpg", ".png"}, {".jpeg", ".png"}):
        photos = next(path.suffix for paths in files.values() for path in paths if path.suffix.lower() != ".png")
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
    listed = {folder.name: files for folder in folders if (files := list_folder(folder).files)}
    guesses = []
    for (images, image_files), (masks, mask_files) in permutations(listed.items(), 2):
        suffixes = {path.suffix.lower() for paths in mask_files.values() for path in paths}
        if forms := find_forms(image_files, mask_files):
            ending = suffixes.pop() if len(suffixes) == 1 else ".*"
            named = images if forms[0] == STEM else f"{images}/{forms[0]}.*"
            guesses.append({"images": named, "masks": f"{masks}/{forms[1]}{ending}"})
        elif suffixes == {".png"} and not _has_suffix(image_files, ".png") and mask_files.keys() & image_files.keys():
            guesses.append({"images": images, "masks": masks})
    return guesses[0] if len(guesses) == 1 else {}


def _has_suffix(files: Mapping[str, Sequence[Path]], suffix: str) -> bool:
    return any(path.suffix.lower() == suffix for paths in files.values() for path in paths)


def _guess_forms(mask: str, stems: Collection[str]) -> Iterator[str]:
    """Yield the forms by which one mask belongs to an image, those that change the name least first."""
    name, parent = PurePosixPath(mask).name, PurePosixPath(mask).parent
    found = []
    for stem in map(PurePosixPath, stems):
        if stem.parent == parent and len(stem.name) < len(name):
            affix = len(name) - len(stem.name)
            if name.startswith(stem.name):
                found.append((affix, STEM + name[len(stem.name) :]))
            if name.endswith(stem.name):
                found.append((affix, name[:affix] + STEM))
    yield from (form for _, form in sorted(found) if any(map(str.isalpha, form.replace(STEM, ""))))


def _strip(name: str, form: str) -> str | None:
    """Return what a form calls the stem of a name, with its folder; None if the name has another form."""
    path = PurePosixPath(name)
    start, _, end = form.partition(STEM)
    if not (path.name.startswith(start) and path.name.endswith(end) and len(path.name) > len(start) + len(end)):
        return None
    stem = path.name[len(start) : len(path.name) - len(end)]
    return stem if path.parent == PurePosixPath(".") else f"{path.parent}/{stem}"
