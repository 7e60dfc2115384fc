"""Checks of folders: pairs that are incomplete, and files that are skipped."""

from __future__ import annotations

import errno
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from atrous.core.findings import Finding, Severity, shorten_list
from atrous.core.split_options import DEFAULT_SHARE
from atrous.core.words import describe_count, spell_command
from atrous.data.checks.survey import Survey
from atrous.data.checks.trials import propose_split
from atrous.data.inventory import FolderListing
from atrous.images.decode import IMAGE_SUFFIXES

_PAIRING = "A mask has the name and the sub-folder of its image, up to the suffix."
_MOST_MOVES = 20
"""Files that a command renames; more are listed."""


def check_unlisted_folder(survey: Survey) -> Iterator[Finding]:
    """Find folders that do not exist or cannot be listed."""
    lines = [line for listing in _list_folders(survey) for line in listing.unlisted]
    if lines:
        message = f"{describe_count(len(lines), 'folder')} cannot be listed: {shorten_list(lines)}"
        locked = [line.rpartition(": ")[0] for line in lines if line.endswith(os.strerror(errno.EACCES))]
        command = spell_command(["chmod", "u+rx", "--", *locked]) if len(locked) == len(lines) else ""
        fix = "Check the folder and its permissions."
        yield Finding("unlisted-folder", "error", len(lines), message, tuple(locked), fix, command=command)


def check_duplicate_name(survey: Survey) -> Iterator[Finding]:
    """Find files that differ in their suffix alone, of which only one can belong to a pair."""
    for number, listings in enumerate(zip(*[(each.images, each.masks) for each in survey.inventories], strict=True)):
        doubled = sorted(files for each in listings for files in each.doubled.values())
        if not doubled:
            continue
        suffixes = Counter(Path(file).suffix for each in listings for file in each.all_files)
        # Of images the usual kind of file is kept; of masks the kind without losses.
        kept = {
            max(map(Path, files), key=lambda path: (number and path.suffix.lower() == ".png", suffixes[path.suffix]))
            for files in doubled
        }
        others = [file for files in doubled for file in files if Path(file) not in kept]
        message = (
            f"{describe_count(len(doubled), 'name')} with several files: "
            f"{shorten_list([' and '.join(files) for files in doubled])}"
        )
        fix = "Look at them and keep one file per name."
        yield Finding("duplicate-name", "error", len(doubled), message, doubled[0], fix, survey.leave_out(others))


def check_image_without_mask(survey: Survey) -> Iterator[Finding]:
    """Find images that have no mask."""
    named = {image for image, _ in _find_near_names(survey)}
    files = sorted(
        path
        for inventory in survey.inventories
        if inventory.unlabelled == "error"
        for path in inventory.images_without_mask
        if path not in named
    )
    settings: Mapping[str, Any] = survey.exclude(files, few=True)
    settings = settings or {"unlabelled": "ignore"}  # which skips all of them
    yield from _list_files("image-without-mask", "error", "image", "without a mask", files, _PAIRING, settings)
    for kind, what in (("background", "read as background"), ("ignore", "skipped")):
        files = [path for each in survey.inventories if each.unlabelled == kind for path in each.images_without_mask]
        yield from _list_files("image-without-mask", "note", "image", f"without a mask, {what}", files)


def check_mask_without_image(survey: Survey) -> Iterator[Finding]:
    """Find masks that have no image."""
    named = {mask for _, mask in _find_near_names(survey)}
    files = sorted(
        path for inventory in survey.inventories for path in inventory.masks_without_image if path not in named
    )
    yield from _list_files(
        "mask-without-image", "error", "mask", "without an image", files, _PAIRING, survey.leave_out(files)
    )


def check_name_differs_by_case(survey: Survey) -> Iterator[Finding]:
    """Find images and masks whose names are equal but for capital letters."""
    found = [pair for pair in _find_near_names(survey) if _compose(pair[0]) != _compose(pair[1])]
    yield from _list_near_names("name-differs-by-case", "by capital letters", found)


def check_name_differs_by_encoding(survey: Survey) -> Iterator[Finding]:
    """Find images and masks whose names look equal and are written with other Unicode characters."""
    found = [pair for pair in _find_near_names(survey) if _compose(pair[0]) == _compose(pair[1])]
    yield from _list_near_names("name-differs-by-encoding", "in the Unicode form of their letters", found)


def _list_near_names(code: str, what: str, found: Sequence[tuple[str, str]]) -> Iterator[Finding]:
    if found:
        lines = [f"{image} and {mask}" for image, mask in found]
        message = f"{describe_count(len(found), 'pair')} with names that differ {what}: {shorten_list(lines)}"
        files = tuple(file for pair in found for file in pair)
        moves = [
            ["mv", "-n", "--", mask, str(Path(mask).with_stem(Path(image).stem))] for image, mask in found[:_MOST_MOVES]
        ]
        fix = "Give both the same name."
        yield Finding(code, "error", len(found), message, files, fix, command=" && ".join(map(spell_command, moves)))


def _find_near_names(survey: Survey) -> list[tuple[str, str]]:
    """Pair images and masks that have no partner by their names without regard to case and Unicode form."""
    pairs = []
    for inventory in survey.inventories:
        images, masks = (
            {unicodedata.normalize("NFC", key).casefold(): listing.files[key] for key in keys}
            for listing, keys in (
                (inventory.images, inventory.images.files.keys() - inventory.masks.files.keys()),
                (inventory.masks, inventory.masks.files.keys() - inventory.images.files.keys()),
            )
        )
        pairs += [(images[name], masks[name]) for name in sorted(images.keys() & masks.keys())]
    return pairs


def _compose(file: str) -> str:
    return unicodedata.normalize("NFC", Path(file).stem)


def check_empty_split(survey: Survey) -> Iterator[Finding]:
    """Find folders of images and masks without a single pair, and splits without one."""
    empty = [inventory for inventory in survey.inventories if not inventory.num_pairs]
    if empty and not (survey.split.is_divided and len(empty) < len(survey.inventories)):
        places = [f"{inventory.images.folder} and {inventory.masks.folder}" for inventory in empty]
        num_pairs = sum(inventory.num_pairs for inventory in survey.inventories)
        settings = {"split": {"val": DEFAULT_SHARE}} if num_pairs > 1 else {}
        fix = f"{_PAIRING} Or hold out a share of the pairs that there are." if settings else _PAIRING
        message = f"no pairs in {'; '.join(places)}"
        yield Finding("empty-split", "error", len(empty), message, fix=fix, settings=settings)
        return
    names = [split.name for split in survey.splits if not split.items]
    if names:
        reason = ": one pair cannot be split into training and validation"
        is_alone = sum(len(split.items) for split in survey.splits) == 1
        message = f"no pairs in {' and '.join(names)}{reason if is_alone else ''}"
        settings = propose_split(survey, "empty-split")
        yield Finding("empty-split", "error", len(names), message, fix="Add pairs.", settings=settings)


def check_hidden_files(survey: Survey) -> Iterator[Finding]:
    """Find files and folders whose name begins with a dot; they are skipped."""
    files = [path for listing in _list_folders(survey) for path in listing.hidden]
    yield from _list_files("hidden-files", "note", "hidden file", "skipped", files)


def check_foreign_files(survey: Survey) -> Iterator[Finding]:
    """Find files that have no suffix of an image; they are skipped."""
    files = [path for listing in _list_folders(survey) for path in listing.foreign]
    kinds = ", ".join(sorted(IMAGE_SUFFIXES))
    yield from _list_files("foreign-files", "note", "other file", f"skipped (images are {kinds})", files)
    unmatched = {path for listing in _list_folders(survey) for path in listing.unmatched}
    for listing in _list_folders(survey) if unmatched else ():
        unmatched.difference_update(listing.all_files)
    yield from _list_files("foreign-files", "note", "image", "skipped, with names of another form", sorted(unmatched))


def check_excluded_files(survey: Survey) -> Iterator[Finding]:
    """Find the files that the user excluded, and patterns that leave out nothing."""
    inventories = survey.inventories
    listings = [listing for inventory in inventories for listing in (inventory.images, inventory.masks)]
    files = sorted({path for listing in listings for paths in listing.excluded.values() for path in paths})
    yield from _list_files("excluded-files", "note", "file", "skipped by data.exclude", files)
    exclusions = dict.fromkeys(inventory.exclusion for inventory in inventories)
    used = {exclusion.find_pattern(path) for exclusion in exclusions for path in files}
    unused = dict.fromkeys(pattern for exclusion in exclusions for pattern in exclusion.patterns if pattern not in used)
    if unused:
        message = f"data.exclude: no image or mask matches {shorten_list([repr(pattern) for pattern in unused])}"
        yield Finding("excluded-files", "note", len(unused), message)


def check_linked_folders(survey: Survey) -> Iterator[Finding]:
    """Find links to folders, which are followed, and those that are skipped: to nothing, or in a loop."""
    files = [path for listing in _list_folders(survey) for path in listing.followed]
    yield from _list_files("linked-folders", "note", "linked folder", "followed", files)
    files = [path for listing in _list_folders(survey) for path in listing.links]
    what = "to nothing, to a folder that is listed already, or in a loop, skipped"
    yield from _list_files("linked-folders", "note", "link", what, files)


def check_special_files(survey: Survey) -> Iterator[Finding]:
    """Find pipes, sockets and devices among the images and masks; they are skipped."""
    files = [path for listing in _list_folders(survey) for path in listing.special]
    yield from _list_files("special-files", "note", "special file", "(a pipe, socket or device) skipped", files)


def _list_folders(survey: Survey) -> list[FolderListing]:
    return [listing for inventory in survey.inventories for listing in (inventory.images, inventory.masks)]


def _list_files(
    code: str,
    severity: Severity,
    noun: str,
    what: str,
    files: Sequence[str],
    fix: str = "",
    settings: Mapping[str, Any] | None = None,
) -> Iterator[Finding]:
    if files:
        message = f"{describe_count(len(files), noun)} {what}: {shorten_list(list(files))}"
        yield Finding(code, severity, len(files), message, tuple(files), fix, settings or {})
