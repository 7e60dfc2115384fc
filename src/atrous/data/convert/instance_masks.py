"""Masks that number the objects of one class, or one mask for each object: every number but 0 becomes the class.

It is never guessed.
"""

from __future__ import annotations

import functools
from pathlib import Path

from atrous.data.convert.contracts import Annotations, Converter, Request
from atrous.data.convert.mask_files import pair_masks, read_objects, require_one_name


def _recognise(source: Path) -> bool:
    return False


def _read(request: Request) -> Annotations:
    name = require_one_name(request)
    return Annotations(pair_masks(request, functools.partial(read_objects, name), several=True), names=(name,))


INSTANCES = Converter(
    _recognise, _read, "masks of numbered objects, or one for each, in masks/, or with names that end in _mask"
)
