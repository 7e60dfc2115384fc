"""Masks of 0 and 255: background and one class. It is never guessed: the values may also be ids."""

from __future__ import annotations

import functools
from pathlib import Path

from atrous.data.convert.contracts import Annotations, Converter, Request
from atrous.data.convert.mask_files import pair_masks, read_binary, require_one_name


def _recognise(source: Path) -> bool:
    return False


def _read(request: Request) -> Annotations:
    name = require_one_name(request)
    return Annotations(pair_masks(request, functools.partial(read_binary, name)), names=(name,))


BINARY = Converter(_recognise, _read, "masks of 0 and 255 in masks/, or with names that end in _mask")
