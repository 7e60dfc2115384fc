"""VOC's layout with masks in colour: `JPEGImages/`, `SegmentationClass/`, and `labelmap.txt` for the colours.

CVAT exports it as "Segmentation mask 1.1". Without a labelmap.txt the colours are those of PASCAL VOC's 21 classes.
"""

from __future__ import annotations

import functools
from pathlib import Path

from atrous.data.convert.contracts import Annotations, Converter, Request
from atrous.data.convert.files import find_files
from atrous.data.convert.mask_files import pair_masks, read_colours, read_table
from atrous.data.datasets.voc import VOC as PASCAL

LABELMAP = "labelmap.txt"
FOLDER = "SegmentationClass"


def _recognise(source: Path) -> bool:
    return (source / FOLDER).is_dir()


def _read(request: Request) -> Annotations:
    files = [file for file in find_files(request.root, ".txt") if file.name == LABELMAP]
    if files:
        table = read_table(files[0])
        return Annotations(pair_masks(request, functools.partial(read_colours, table)), names=tuple(table))
    colours = dict(zip(PASCAL.names, PASCAL.colours, strict=True)) | {"void": (224, 224, 192)}
    images = pair_masks(request, functools.partial(read_colours, colours))
    return Annotations(images, classes=dict(zip(PASCAL.ids[1:], PASCAL.names[1:], strict=True)), names=("void",))


VOC = Converter(_recognise, _read, f"VOC's layout: masks in {FOLDER}/, colours in {LABELMAP}")
