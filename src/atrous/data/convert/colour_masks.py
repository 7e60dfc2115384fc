"""Masks in colour with a table of the colours, a CSV or a labelmap.txt, in any of the usual folders."""

from __future__ import annotations

import functools
from pathlib import Path

from atrous.core.errors import DataError
from atrous.data.convert.contracts import Annotations, Converter, Request
from atrous.data.convert.files import find_files
from atrous.data.convert.mask_files import find_masks, pair_masks, read_colours, read_table
from atrous.data.convert.voc import FOLDER, LABELMAP


def _find_table(source: Path) -> Path | None:
    """Return labelmap.txt, or a CSV whose name says that it is about classes or colours."""
    texts = [file for file in find_files(source, ".txt") if file.name == LABELMAP]
    words = ("class", "label", "colour", "color")
    tables = [file for file in find_files(source, ".csv") if any(word in file.stem.lower() for word in words)]
    return next(iter([*texts, *tables]), None)


def _recognise(source: Path) -> bool:
    if not source.is_dir() or (source / FOLDER).is_dir():
        return False
    table = _find_table(source)
    try:
        return table is not None and bool(read_table(table)) and bool(find_masks(source))
    except DataError:
        return False


def _read(request: Request) -> Annotations:
    file = _find_table(request.root)
    if file is None:
        return Annotations(())
    with request.collecting(file):
        table = read_table(file)
        return Annotations(pair_masks(request, functools.partial(read_colours, table)), names=tuple(table))
    return Annotations(())


COLOURS = Converter(_recognise, _read, f"masks in colour, and their colours in a {LABELMAP} or a CSV")
