"""Dividing the images of some data into those to train on and those to score: by splits, by lists, or by a share."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

from atrous.core.errors import DataError
from atrous.core.findings import shorten_list
from atrous.core.labels import LabelSpace
from atrous.core.records import Note, Progress, ProgressCallback
from atrous.core.registry import nearest_name
from atrous.core.split_options import DEFAULT_SHARE, SplitOptions, is_list
from atrous.core.words import describe_count
from atrous.data.contracts import DataRequest
from atrous.data.facts import iter_threads
from atrous.data.facts_cache import FactsCache
from atrous.data.inventory import Pair
from atrous.data.mask_reader import MaskReader
from atrous.data.split import compute_stratified_split, find_group, join_groups
from atrous.images.decode import IMAGE_SUFFIXES

FEWEST_WHOLE = 10
"""Images, from which those that are rasters in blocks are held out as a whole; of fewer, blocks are held out."""

_FORM = "Write an image a line, such as photos/a.jpg, or its name without suffix."


@dataclass(frozen=True)
class Division:
    """The two sides of some data.

    Args:
        train: The pairs to train on.
        val: The pairs to score.
        notes: What was assumed.
    """

    train: tuple[Pair, ...]
    val: tuple[Pair, ...]
    notes: tuple[Note, ...] = ()


def divide_pairs(
    root: Path,
    pairs: Mapping[str, Sequence[Pair]],
    space: LabelSpace,
    request: DataRequest,
    *,
    has_splits: bool = True,
    excluded: Collection[str] = (),
    ids: Mapping[str, Collection[int]] | None = None,
) -> Division:
    """Divide the pairs of some data as a request says.

    Args:
        root: The folder of the data, which lists are relative to.
        pairs: The pairs of each split that the request chose; all under one name if the data have no splits.
        space: What the ids in the masks mean.
        request: What is wanted.
        has_splits: Whether the data have splits.
        excluded: Keys of images that the user excluded; lists may name them.
        ids: The ids in the mask of each pair by its key, if they are known.
    Raises:
        DataError: A list cannot be read or names images that the data do not have, or splits are named and there are
            none.
    """
    split = request.split
    everything = {pair.key: pair for pair in sorted(chain(*pairs.values()), key=lambda pair: pair.key)}
    sides: list[tuple[Pair, ...] | None] = []
    for text in (split.train, split.val):
        if not isinstance(text, str):
            sides.append(None)
        elif is_list(text):
            sides.append(_take_listed(root / text, everything, root, excluded))
        elif has_splits:
            sides.append(tuple(pairs[text]))
        else:
            raise DataError(
                f"{root}: no split {text}, as the data have no splits",
                "Leave it out, or hold out a share of the images: `set` data.split.val=0.2.",
            )
    train, val = sides
    share = split.share or (None if has_splits or train or val else DEFAULT_SHARE)
    if share is not None:
        pool = train or tuple(everything.values())
        masks = read_ids(pool, request.mask_reader, request.progress) if ids is None else [ids[p.key] for p in pool]
        contents = [{*found} & {*space.ids} for found in masks]
        return _hold_out(pool, contents, {*pairs}, request.split, reason="" if has_splits else "no splits: ")
    if split.is_divided:
        train, val = (
            own if own is not None else _leave(everything, other) for own, other in ((train, val), (val, train))
        )
        return Division(train, val, (Note("listed", f"{len(train):,} to train on, {len(val):,} to score by lists"),))
    return Division(tuple(pairs[split.train_name]), tuple(pairs[split.val_name]))


def read_ids(
    pairs: Sequence[Pair], reader: MaskReader, progress: ProgressCallback | None = None
) -> list[Collection[int]]:
    """Return the ids in each mask; none of a mask that cannot be read, which the checks of the data report.

    Args:
        pairs: The files; a pair without a mask is background as a whole.
        reader: What turns the numbers in the masks into ids.
        progress: Receives the progress.
    """

    def read(pair: Pair) -> Collection[int]:
        try:
            return reader.read_facts(Path(pair.mask), cache, pair.window).counts if pair.mask is not None else {0}
        except DataError:
            return ()

    found: list[Collection[int]] = []
    with FactsCache() as cache:
        for ids in iter_threads(read, pairs):
            found.append(ids)
            if progress is not None:
                progress(Progress("reading masks", len(found), len(pairs)))
    return found


def choose_held_out(
    keys: Sequence[str],
    contents: Sequence[Collection[int]],
    copies: Sequence[str | None],
    split: SplitOptions,
    names: Collection[str],
) -> tuple[list[int], int]:
    """Choose the images to hold out, where images of one group, and copies of one file, stay on one side.

    Args:
        keys: Name of each image, (N,).
        contents: The class ids in each, (N,).
        copies: What copies of one file have in common, (N,); None for an image without a copy.
        split: What is wanted.
        names: Names of the splits that the keys may begin with.
    Returns:
        Indices of the held-out images, ascending, and how many groups there are.
    Raises:
        DataError: All images are in one group.
    """
    expression = None if split.group is None else re.compile(split.group)
    named = [None if expression is None else find_group(expression, key, names) for key in keys]
    groups = join_groups(named, copies)
    if len({*groups}) == 1 and len(keys) > 1:
        if expression is not None:
            raise DataError(
                f"data.split.group: {split.group!r} puts all {describe_count(len(keys), 'image')} into one group",
                'Write another one, such as "^(.+?)_": what is before the first underscore.',
                "empty-split",
            )
        groups = list(range(len(keys)))  # copies of one image, which a check reports
    return compute_stratified_split(contents, split.share or DEFAULT_SHARE, split.seed, groups), len({*groups})


def find_copies(files: Sequence[str | None]) -> list[str | None]:
    """Return a hash of each file that has the size of another; None for the others, which have no copy."""
    sizes: dict[int, dict[str, None]] = {}
    for file in files:
        if file is not None and os.path.isfile(file):
            sizes.setdefault(os.path.getsize(file), {})[file] = None
    suspects = [file for same in sizes.values() if len(same) > 1 for file in same]

    def read(file: str) -> str | None:
        try:
            return cache.read_digest(Path(file))
        except DataError:
            return None

    with FactsCache() as cache:
        found = dict(zip(suspects, iter_threads(read, suspects), strict=True))
    return [None if file is None else found.get(file) for file in files]


def _hold_out(
    pairs: Sequence[Pair],
    contents: Sequence[Collection[int]],
    names: Collection[str],
    split: SplitOptions,
    *,
    reason: str,
) -> Division:
    held, num_groups = choose_held_out([pair.file_key for pair in pairs], contents, _find_equal(pairs), split, names)
    chosen = {*held}
    train = tuple(pair for index, pair in enumerate(pairs) if index not in chosen)
    val = tuple(pair for index, pair in enumerate(pairs) if index in chosen)
    together = f", {describe_count(num_groups, 'group')} kept together" if split.group is not None else ""
    in_blocks = (
        "; blocks of a raster are on both sides, and no training window reaches into one that is held out"
        if {pair.image for pair in train if pair.window} & {pair.image for pair in val}
        else ""
    )
    message = (
        f"{reason}{len(val):,} of {describe_count(len(pairs), 'pair')} held out for validation, stratified by class, "
        f"seed {split.seed}{together}{in_blocks}"
    )
    return Division(train, val, (Note("held-out", message),))


def _find_equal(pairs: Sequence[Pair]) -> list[str | None]:
    """Return what pairs that must stay on one side have in common: copies, and blocks of one of many rasters."""
    copies = find_copies([pair.image for pair in pairs])
    if len({pair.image for pair in pairs}) >= FEWEST_WHOLE:
        return [copy or (pair.image if pair.window else None) for pair, copy in zip(pairs, copies, strict=True)]
    return [
        copy if copy is None or pair.window is None else copy + pair.window.label
        for pair, copy in zip(pairs, copies, strict=True)
    ]


def _leave(everything: Mapping[str, Pair], taken: Sequence[Pair] | None) -> tuple[Pair, ...]:
    left_out = {pair.key for pair in taken or ()}
    return tuple(pair for key, pair in everything.items() if key not in left_out)


def _take_listed(path: Path, everything: Mapping[str, Pair], root: Path, excluded: Collection[str]) -> tuple[Pair, ...]:
    """Return the pairs that a file lists, in its order."""
    index: dict[str, list[str]] = {}
    for key, pair in everything.items():
        image = Path(pair.image)
        inside = image.relative_to(root).with_suffix("") if image.is_relative_to(root) else Path(key)
        for name in {*_list_ends(key), *_list_ends(pair.file_key), *_list_ends(inside.as_posix())}:
            index.setdefault(name, []).append(key)
    left_out = {end for key in excluded for end in _list_ends(key)}
    chosen: dict[str, None] = {}
    missing, unclear = [], []
    for number, text in _read_lines(path):
        name = _strip(text, root)
        keys = index.get(name, [])
        if len({everything[key].image for key in keys}) == 1:  # several are the blocks of a raster
            chosen.update(dict.fromkeys(keys))
        elif keys:
            unclear.append(f"{path}:{number}: {text} is {' and '.join(keys[:2])}")
        elif name not in left_out:
            missing.append(f"{path}:{number}: {text}")
    if missing:
        near = nearest_name(_strip(missing[0].rpartition(": ")[2], root), list(everything))
        raise DataError(
            f"{describe_count(len(missing), 'image')} listed that the data do not have: {shorten_list(missing)}",
            (f"Did you mean {near}? " if near else "") + "Add the images with their masks, or remove their lines.",
        )
    if unclear:
        raise DataError(f"names that several images have: {shorten_list(unclear)}", "Write them with their folders.")
    if not chosen:
        raise DataError(f"{path}: no image listed", _FORM)
    return tuple(everything[key] for key in chosen)


def _list_ends(key: str) -> list[str]:
    parts = key.split("/")
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _strip(text: str, root: Path) -> str:
    """Return the name of an image as a list writes it, without its suffix and relative to the data."""
    path = PurePosixPath(text.replace("\\", "/"))
    if path.is_absolute() and path.is_relative_to(root.as_posix()):
        path = path.relative_to(root.as_posix())
    return (path.with_suffix("") if path.suffix.lower() in IMAGE_SUFFIXES else path).as_posix()


def _read_lines(path: Path) -> list[tuple[int, str]]:
    """Return the names in a list with the numbers of their lines: of a CSV file its column image, or else its first."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        hint = "data.split names a file relative to the folder of the data."
        raise DataError(f"{path}: cannot be read: {error.strerror}", hint) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text", "Save it as UTF-8.") from error
    if path.suffix.lower() != ".csv":
        return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    delimiter = max(",;\t", key=(lines or [""])[0].count)
    try:
        rows = [(number, row) for number, row in enumerate(csv.reader(lines, delimiter=delimiter), start=1) if any(row)]
    except csv.Error as error:
        raise DataError(f"{path}: no CSV file: {error}", _FORM) from error
    header = [cell.strip().lower() for cell in rows[0][1]] if rows else []
    column = header.index("image") if "image" in header else 0
    return [
        (number, row[column].strip())
        for number, row in (rows[1:] if "image" in header else rows)
        if len(row) > column and row[column].strip()
    ]
