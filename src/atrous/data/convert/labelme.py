"""labelme: a JSON file for each image, with polygons, rectangles, circles, lines, points and masks.

Shapes are drawn as labelme draws them, later ones over earlier ones. An image whose file is missing is taken from the
JSON file, if that holds it.
"""

from __future__ import annotations

import base64
import binascii
import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from atrous.core.errors import DataError
from atrous.core.files import save_json
from atrous.core.records import Note
from atrous.core.words import describe_count
from atrous.data.convert.contracts import (
    AnnotatedImage,
    AnnotationError,
    Annotations,
    Converter,
    Export,
    Patch,
    Region,
    Request,
)
from atrous.data.convert.files import iter_heads, read_json, read_label
from atrous.data.convert.images import join_name
from atrous.data.convert.shapes import draw_shape, read_points
from atrous.data.convert.tracing import find_needed_outlines
from atrous.images.decode import load_header, load_mask

_SHAPES = re.compile(r'^\{.*"shapes"\s*:', re.DOTALL)
_KINDS = {
    "polygon": ("polygon", 3),
    "oriented_rectangle": ("polygon", 4),
    "rectangle": ("rectangle", 2),
    "circle": ("circle", 2),
    "line": ("line", 2),
    "linestrip": ("line", 2),
    "point": ("point", 1),
}
"""How each type of shape is drawn, and the points that it needs."""


def _recognise(source: Path) -> bool:
    return any(_SHAPES.match(head) for head in iter_heads(source, ".json"))


def _read(request: Request) -> Annotations:
    images, labels, foreign = [], set(), 0
    for file in request.iter_files(".json"):
        with request.collecting(file):
            content = read_json(file)
            if isinstance(content, dict) and isinstance(content.get("shapes"), list):
                item = _read_image(content, file, request)
                images.append(item)
                labels |= {region.label for region in item.regions}
            else:
                foreign += 1
    notes = [Note("foreign-files", f"{describe_count(foreign, 'JSON file')} without shapes skipped")] if foreign else []
    notes += request.list_unused({item.image for item in images}, "a JSON file")
    return Annotations(tuple(images), names=tuple(sorted(labels)), notes=tuple(notes))


def _read_image(content: dict[str, Any], file: Path, request: Request) -> AnnotatedImage:
    """Read the annotations of one image.

    Raises:
        AnnotationError: There is no such image, or several.
    """
    regions = []
    for number, shape in enumerate(content["shapes"], start=1):
        where = f"shape {number}"
        with request.collecting(file, where):
            regions.append(_read_shape(shape, where, request.line_width_px))
    height, width = content.get("imageHeight"), content.get("imageWidth")
    size = (height, width) if type(height) is int and type(width) is int else None
    path = content.get("imagePath")
    name = join_name(file.parent, path) if isinstance(path, str) else ""
    found = request.find_image(name, file.parent)
    if found is not None:
        image: Path | Callable[[], bytes] = found
        key = request.finder.get_key(found)
    elif isinstance(content.get("imageData"), str):
        image = functools.partial(_read_embedded, file)
        key = file.relative_to(request.root).with_suffix("").as_posix()
    else:
        raise AnnotationError("missing-image", f"there is no image {str(path)[:200]!r}")
    return AnnotatedImage(str(file), image, key, tuple(regions), size, name=name)


def _read_shape(shape: Any, where: str, line_width_px: int) -> Region:
    """Read one annotation.

    Raises:
        AnnotationError: It cannot be drawn.
    """
    if not isinstance(shape, dict):
        raise AnnotationError("broken-annotation", "no object")
    label = read_label(shape.get("label"))
    if not label:
        raise AnnotationError("unknown-label", f"its label is {str(shape.get('label'))[:50]!r}")
    kind = shape.get("shape_type") or "polygon"
    if kind == "mask":
        points = read_points(shape.get("points"), 2)
        return Region(label, where, functools.partial(_draw_mask, shape.get("mask"), points))
    if not isinstance(kind, str) or kind not in _KINDS:
        raise AnnotationError("broken-annotation", f"its shape_type is {str(kind)[:50]!r}")
    drawn_as, least = _KINDS[kind]
    points = read_points(shape.get("points"), least)
    return Region(label, where, functools.partial(draw_shape, drawn_as, points, line_width_px))


def _draw_mask(encoded: Any, points: np.ndarray, height: int, width: int) -> Patch:
    """Return the pixels of a mask, which fills the box between two pixels.

    Raises:
        AnnotationError: It is not encoded as labelme does, or not as large as its box.
    """
    (left, top), (right, bottom) = points[:2].astype(int).tolist()
    size = (bottom - top + 1, right - left + 1)
    if not (0 <= left <= right < width and 0 <= top <= bottom < height):
        raise AnnotationError("outside", "its box is not inside the image")
    try:
        content = base64.b64decode(encoded, validate=True)
        header = load_header(content)
        if (header.height, header.width) != size:
            raise AnnotationError(
                "wrong-size",
                f"its mask is {header.height}x{header.width} (height x width), its box {size[0]}x{size[1]}",
            )
        return Patch(top, left, load_mask(content) != 0)
    except (DataError, TypeError, binascii.Error) as error:
        raise AnnotationError("broken-annotation", f"its mask cannot be decoded: {error}") from error


def _read_embedded(file: Path) -> bytes:
    """Return the image in a JSON file.

    Raises:
        AnnotationError: It is not encoded as labelme does.
    """
    try:
        return base64.b64decode(read_json(file)["imageData"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise AnnotationError("unreadable-image", "its imageData cannot be decoded") from error


def _write(export: Export) -> None:
    """Write a file for each image: regions with what is in their holes above them."""
    for item in export.images:
        file = export.folder / f"{item.key}.json"
        labels = item.read()
        shapes = [
            _build_shape(export.get_name(outline.id), outline.trace_centres())
            for outline in find_needed_outlines(labels, export.background)
        ]
        content = {
            "version": "5.5.0",
            "flags": {},
            "shapes": shapes,
            "imagePath": Path(os.path.relpath(item.image, file.parent)).as_posix(),
            "imageData": None,
            "imageHeight": labels.shape[0],
            "imageWidth": labels.shape[1],
        }
        save_json(file, content)


def _build_shape(label: str, points: np.ndarray) -> dict[str, Any]:
    """Return a polygon, or a rectangle for what is one pixel wide."""
    kind = "polygon" if len(points) > 2 else "rectangle"
    corners = points.tolist() if len(points) > 2 else [points[0].tolist(), points[-1].tolist()]
    return {"label": label, "points": corners, "group_id": None, "shape_type": kind, "flags": {}}


LABELME = Converter(_recognise, _read, "labelme's JSON files beside their images", _write, "{key}.json")
