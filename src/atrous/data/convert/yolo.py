"""YOLO segmentation: a text file for each image, with a line for each polygon: number of its class, then x and y.

Coordinates are fractions of the image. Polygons have no order: where they overlap, the smaller one is on top. Classes
are numbered from 0 in the files; here the first one is 1, since 0 is background. An image without a text file, in a
folder of images that have some, is background.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from atrous.core.errors import DataError
from atrous.core.labels import name_unnamed
from atrous.core.records import Note, Progress
from atrous.core.words import describe_count
from atrous.data.convert.contracts import (
    AnnotatedImage,
    AnnotationError,
    Annotations,
    Converter,
    Patch,
    Region,
    Request,
)
from atrous.data.convert.files import find_files, read_head, read_label, read_text
from atrous.data.convert.shapes import fill_polygon, read_points

_LINE = re.compile(r"^\d+(?: +-?[\d.][\d.e+-]*){4,}\s*$", re.MULTILINE)
_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt")
"""Files that name the classes."""
LARGEST_NAMES_BYTES = 2**20
HIGHEST_CLASS = 65533


def _recognise(source: Path) -> bool:
    return any(_LINE.match(read_head(file)) for file in _find_labels(source)[:50])


def _find_labels(source: Path) -> list[Path]:
    return [file for file in find_files(source, ".txt") if file.name not in _NAMES]


def _read(request: Request) -> Annotations:
    names = _read_names(request)
    images: list[AnnotatedImage] = []
    numbers: set[int] = set()
    files = _find_labels(request.source)
    for number, file in enumerate(files, start=1):
        with request.collecting(file):
            text = read_text(file)
            found = _find_image(file, request)
            if found is None and text.strip() and not _LINE.match(text):
                continue  # a list of images, or notes
            if found is None:
                raise AnnotationError("missing-image", f"there is no image {file.stem!r}")
            regions = []
            for row, line in enumerate(text.splitlines(), start=1):
                with request.collecting(file, f"line {row}"):
                    if line.strip():
                        class_number, points = _read_line(line, names)
                        numbers.add(class_number)
                        label = names.get(class_number, name_unnamed(class_number + 1))
                        regions.append(Region(label, f"line {row}", functools.partial(_draw, points)))
            key, name = request.finder.get_key(found), file.with_suffix("").as_posix()
            images.append(AnnotatedImage(str(file), found, key, tuple(regions), name=name))
        request.progress(Progress("reading annotations", number, len(files)))
    annotated = {item.image for item in images}
    folders = {path.parent for path in annotated if isinstance(path, Path)}
    bare = [path for path in request.finder if path not in annotated and path.parent in folders]
    images += [AnnotatedImage(str(path), path, request.finder.get_key(path), ()) for path in bare]
    notes = []
    if unnamed := sorted(numbers - set(names)):
        message = f"no {_NAMES[0]} or {_NAMES[-1]} names the classes {', '.join(map(str, unnamed[:20]))}"
        notes.append(Note("classes-not-named", message))
    classes = {number + 1: names.get(number, name_unnamed(number + 1)) for number in sorted({*names, *numbers})}
    if len(set(classes.values())) < len(classes) or 255 in classes:
        return Annotations(tuple(images), names=tuple(classes.values()), smaller_on_top=True, notes=tuple(notes))
    return Annotations(tuple(images), classes=classes, smaller_on_top=True, notes=tuple(notes))


def _find_image(file: Path, request: Request) -> Path | None:
    """Return the image of a text file: of the same name, beside it or in a folder of images beside its own.

    Raises:
        AnnotationError: There are several.
    """
    found = request.finder.find_by_stem(file.with_suffix("").as_posix())
    if len(found) > 1:
        count = describe_count(len(found), "image")
        raise AnnotationError("missing-image", f"{count} are named {file.stem!r}, such as {found[0]}")
    return found[0] if found else None


def _read_line(line: str, names: Mapping[int, str]) -> tuple[int, np.ndarray]:
    """Return the number of a class and its polygon in fractions of the image.

    Raises:
        AnnotationError: The line is broken.
    """
    first, *numbers = line.split()
    if not (first.isdecimal() and len(first) < 6 and int(first) <= HIGHEST_CLASS):
        raise AnnotationError("unknown-label", f"its class is {first[:50]!r}")
    if names and int(first) not in names:
        raise AnnotationError("unknown-label", f"its class {first} is not among {describe_count(len(names), 'name')}")
    if len(numbers) == 4:
        raise AnnotationError("too-few-points", "a box of object detection, not a polygon")
    try:
        return int(first), read_points([float(number) for number in numbers], 3)
    except ValueError as error:
        if isinstance(error, AnnotationError):
            raise
        raise AnnotationError("broken-annotation", "its points are no list of x and y") from error


def _draw(points: np.ndarray, height: int, width: int) -> Patch:
    return fill_polygon(read_points((points * (width, height)).tolist(), 3), height, width)


def _read_names(request: Request) -> dict[int, str]:
    """Return the names of the classes by their number; none if no file names them."""
    files = (*find_files(request.root, ".yaml"), *find_files(request.root, ".yml"), *find_files(request.root, ".txt"))
    for file in sorted((file for file in files if file.name in _NAMES), key=lambda file: len(file.parts)):
        with request.collecting(file):
            if file.stat().st_size > LARGEST_NAMES_BYTES:
                raise DataError(f"{file}: too large for names of classes")
            text = read_text(file)
            rows = text.splitlines() if file.suffix == ".txt" else _load_names(text, file)
            pairs = rows.items() if isinstance(rows, dict) else enumerate(rows)
            names = {number: read_label(name) for number, name in pairs if isinstance(number, int)}
            if names and all(names.values()):
                return names
            raise DataError(f"{file}: names no classes")
    return {}


def _load_names(text: str, file: Path) -> dict[Any, Any] | list[Any]:
    """Return the names in a data.yaml.

    Raises:
        DataError: It is not YAML, or has none.
    """
    try:
        content = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: not YAML") from error
    names = content.get("names") if isinstance(content, dict) else None
    return names if isinstance(names, dict | list) else []


YOLO = Converter(_recognise, _read, "YOLO's text files of polygons")
