"""Pairs of images and masks that a CSV file lists."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atrous.core.errors import DataError
from atrous.core.findings import shorten_list
from atrous.core.records import Note
from atrous.core.words import describe_count
from atrous.data.inventory import Exclusion, Pair

_FORM = "Write a header with image, mask and, if there are splits, split; then a pair a line, relative to the file."


@dataclass(frozen=True)
class ListedPairs:
    """The pairs of a list.

    Args:
        splits: The pairs of each split, in the order of the list; all under "" if it has no splits.
        notes: What was skipped.
    """

    splits: Mapping[str, tuple[Pair, ...]]
    notes: tuple[Note, ...] = ()


def read_pair_list(path: Path, exclusion: Exclusion) -> ListedPairs:
    """Read the pairs that a CSV file lists; keys are the paths of the images without suffix.

    Args:
        path: The file, with commas, semicolons or tabs between the columns image, mask and split.
        exclusion: What is skipped.
    Raises:
        DataError: The file cannot be read, has other columns, names a file that does not exist, or an image twice.
    """
    rows = _read_rows(path)
    pairs: dict[str, list[Pair]] = {}
    excluded, missing, seen = 0, [], dict[str, int]()
    for number, row in rows:
        image, mask = (path.parent / row[kind] for kind in ("image", "mask"))
        key = Path(row["image"]).with_suffix("").as_posix()
        if key in seen:
            raise DataError(f"{path}:{number}: {row['image']} has the name of line {seen[key]}", "List an image once.")
        seen[key] = number
        if exclusion.find_pattern(image) is not None or exclusion.find_pattern(mask) is not None:
            excluded += 1
            continue
        missing += [f"{path}:{number}: {file}" for file in (image, mask) if not file.is_file()]
        pairs.setdefault(row["split"], []).append(Pair(key, str(image), str(mask)))
    if missing:
        raise DataError(
            f"{describe_count(len(missing), 'file')} listed that do not exist: {shorten_list(missing)}",
            "Add the files, or remove their lines.",
        )
    if not pairs:
        raise DataError(f"{path}: no pair listed", _FORM)
    if "" in pairs and len(pairs) > 1:
        raise DataError(
            f"{path}: {describe_count(len(pairs['']), 'pair')} without a split", "Name a split in each line."
        )
    message = f"{describe_count(excluded, 'pair')} of {path} skipped by data.exclude"
    notes = (Note("excluded-files", message),) if excluded else ()
    return ListedPairs({split: tuple(listed) for split, listed in pairs.items()}, notes)


def _read_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Return the rows with their line numbers; each has the columns image, mask and split."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", "data.pairs names a file of the data.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text", "Save it as UTF-8.") from error
    delimiter = max(",;\t", key=(lines or [""])[0].count)
    header, *rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)] or [[]]
    columns = [name.lower() for name in header]
    if not {"image", "mask"} <= {*columns}:
        raise DataError(f"{path}:1: its columns are {', '.join(header) or 'none'}", _FORM)
    found = []
    for number, row in enumerate(rows, start=2):
        cells = dict(zip(columns, row, strict=False))
        if any(row):
            if not (cells.get("image") and cells.get("mask")):
                raise DataError(f"{path}:{number}: an image or a mask is missing", _FORM)
            found.append((number, {"split": "", **cells}))
    return found
