"""Label Studio: a JSON list of tasks with brush strokes, polygons, rectangles and ellipses, also in the form JSON_MIN.

Coordinates are percentages of the image. Later regions are on top. Of several annotations of a task the latest one that
was not cancelled counts; a task without one is skipped.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np

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
from atrous.data.convert.files import find_files, iter_heads, read_json, read_label
from atrous.data.convert.images import read_link
from atrous.data.convert.shapes import FARTHEST, fill_ellipse, fill_polygon, read_points, turn_box

_TASKS = re.compile(r'^\[\s*\{.*"(?:annotations|completions|result|data|annotation_id)"\s*:', re.DOTALL)
_UPLOAD = re.compile(r"^[0-9a-f]{8}-")
"""What an upload puts before the name of a file."""
_LABELS = ("brushlabels", "polygonlabels", "rectanglelabels", "ellipselabels", "labels")
"""Lists of labels of a region; the last one is that of a tool apart from the tool that draws."""
_GEOMETRY = ("rle", "points", "x", "y", "width", "height", "radiusX", "radiusY", "rotation")
_KINDS = {"rle": "brush", "points": "polygon", "radiusX": "ellipse", "width": "rectangle"}
"""What draws a region, by the first of these that it has."""
OPAQUE = 128
"""Least alpha, of 255, of a pixel that a brush has painted."""


def _recognise(source: Path) -> bool:
    return any(_TASKS.match(head) for head in iter_heads(source, ".json"))


def _read(request: Request) -> Annotations:
    files = find_files(request.source, ".json")
    images: list[AnnotatedImage] = []
    skipped = several = 0
    for file in files:
        with request.collecting(file):
            content = read_json(file)
            tasks = _expand_records(content) if isinstance(content, list) else []
            for number, task in enumerate(tasks, start=1):
                where = f"task {task.get('id', number)}" if isinstance(task, dict) else f"task {number}"
                with request.collecting(file, where):
                    results = _list_results(task)
                    several += len(results) > 1
                    if results:
                        images.append(_read_task(task, results[-1], where, file, request))
                    else:
                        skipped += 1
                request.progress(Progress("reading annotations", number, len(tasks)))
    notes = []
    if skipped:
        message = f"{describe_count(skipped, 'task')} without an annotation skipped"
        notes.append(Note("images-not-annotated", message))
    if several:
        message = f"{describe_count(several, 'task')} with several annotations: the last one counts"
        notes.append(Note("several-annotations", message))
    labels = sorted({region.label for image in images for region in image.regions})
    return Annotations(tuple(images), names=tuple(labels), notes=tuple(notes))


def _expand_records(rows: list[Any]) -> list[Any]:
    """Return tasks as the export JSON has them: JSON_MIN has a flat record for each annotation."""
    tasks: dict[Any, Any] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or "annotation_id" not in row or "data" in row:
            tasks[None, number] = row
            continue
        values = [value for items in row.values() if isinstance(items, list) for value in items]
        results = [
            {"value": value, **{name: value.get(name) for name in ("original_width", "original_height")}}
            for value in values
            if isinstance(value, dict)
        ]
        links = {name: value for name, value in row.items() if isinstance(value, str)}
        task = {"id": row.get("id", number), "data": links, "annotations": []}
        annotation = {"result": results, "created_at": row.get("created_at")}
        tasks.setdefault(str(task["id"]), task)["annotations"].append(annotation)
    return list(tasks.values())


def _list_results(task: Any) -> list[list[Any]]:
    """Return the results of each annotation of a task that counts, the latest one at the end.

    Raises:
        AnnotationError: It is no task.
    """
    rows = task.get("annotations", task.get("completions")) if isinstance(task, dict) else None
    if not isinstance(rows, list):
        raise AnnotationError("broken-annotation", "no list of annotations: export as JSON or JSON_MIN")
    kept = [row for row in rows if isinstance(row, dict) and not row.get("was_cancelled")]
    kept.sort(key=lambda row: str(row.get("created_at") or ""))
    return [row["result"] for row in kept if isinstance(row.get("result"), list)]


def _read_task(task: dict[str, Any], results: list[Any], where: str, file: Path, request: Request) -> AnnotatedImage:
    """Read the annotations of one image.

    Raises:
        AnnotationError: There is no such image, or several.
    """
    names = list(_iter_names(task))
    found = (request.find_image(name, file.parent) for name in names)
    image = next((path for path in found if path is not None), None)
    if image is None:
        raise AnnotationError("missing-image", f"there is no image {names[0][:200]!r}" if names else "it has no image")
    regions = []
    sizes = set()
    twins = {_describe_geometry(result) for result in results if _has_labels(result)}
    for number, result in enumerate(results, start=1):
        place = f"{where}, result {number}"
        if _is_region(result) and (_has_labels(result) or _describe_geometry(result) not in twins):
            with request.collecting(file, place):
                size, region = _read_result(result, place)
                sizes.add(size)
                regions.append(region)
    if len(sizes) > 1:
        raise AnnotationError("wrong-size", "its annotations are for images of different sizes")
    return AnnotatedImage(
        str(file), image, request.finder.get_key(image), tuple(regions), next(iter(sizes), None), name=names[0]
    )


def _iter_names(task: dict[str, Any]) -> Iterator[str]:
    """Yield what may be the name of a task's image: in links, after an upload, on a server that reads local files."""
    data = task.get("data")
    values = list(data.values()) if isinstance(data, dict) else []
    for value in (*values, task.get("file_upload")):
        if isinstance(value, str) and value:
            name = unquote(value.partition("?d=")[2]) or read_link(value)
            yield name
            yield _UPLOAD.sub("", re.split(r"[\\/]", name)[-1])


def _is_region(result: Any) -> bool:
    """Whether a result is drawn on the image; others are choices, texts and relations."""
    value = result.get("value") if isinstance(result, dict) else None
    kind = str(result.get("type", "labels")) if isinstance(result, dict) else "labels"
    return kind.endswith("labels") or (isinstance(value, dict) and not value.keys().isdisjoint(_KINDS))


def _has_labels(result: Any) -> bool:
    value = result.get("value") if isinstance(result, dict) else None
    return isinstance(value, dict) and any(name in value for name in _LABELS)


def _describe_geometry(result: Any) -> str:
    """Return what a region covers, which two tools may say: one that draws and one that labels."""
    value = result.get("value") if isinstance(result, dict) else None
    return json.dumps([value.get(name) for name in _GEOMETRY]) if isinstance(value, dict) else ""


def _read_result(result: Any, where: str) -> tuple[tuple[int, int], Region]:
    """Read one region, and return it with the height and width of its image.

    Raises:
        AnnotationError: It cannot be drawn.
    """
    value = result.get("value") if isinstance(result, dict) else None
    if not isinstance(value, dict):
        raise AnnotationError("broken-annotation", "no region with a value")
    labels = next((value[name] for name in _LABELS if name in value), None)
    label = read_label(labels[0]) if isinstance(labels, list) and len(labels) == 1 else ""
    kind = next((kind for name, kind in _KINDS.items() if name in value), "")
    others = [name for name in value if name.endswith("labels") and name not in _LABELS]
    if others or not kind:
        name = f"{others[0][:50]!r} is " if others else ""
        raise AnnotationError("broken-annotation", f"{name}neither brush, polygon, rectangle nor ellipse")
    if not label:
        raise AnnotationError("unknown-label", f"its labels are {str(labels)[:50]}, not one")
    height, width = result.get("original_height"), result.get("original_width")
    if type(height) is not int or type(width) is not int or not (0 < height < FARTHEST and 0 < width < FARTHEST):
        raise AnnotationError("broken-annotation", "without original_height and original_width")
    if result.get("image_rotation"):
        raise AnnotationError("broken-annotation", "drawn on a rotated image")
    if kind == "brush":
        return (height, width), Region(label, where, functools.partial(_draw_brush, value.get("rle")))
    scale = np.array([width, height]) / 100
    if kind == "polygon":
        points = read_points(value.get("points"), 3) * scale
        return (height, width), Region(label, where, functools.partial(fill_polygon, points))
    sides = ("width", "height") if kind == "rectangle" else ("radiusX", "radiusY")
    start, extent = read_points([[value.get(name) for name in names] for names in (("x", "y"), sides)], 2) * scale
    degrees = float(read_points([[value.get("rotation", 0), 0]], 1)[0, 0])
    if kind == "rectangle":
        left, top, right, bottom = (float(number) for number in (*start, *(start + extent)))
        corners = turn_box((left, top, right, bottom), (left, top), degrees)
        return (height, width), Region(label, where, functools.partial(fill_polygon, corners))
    x, y, rx, ry = (float(number) for number in (*start, *extent))
    return (height, width), Region(label, where, functools.partial(fill_ellipse, (x, y), (rx, ry), degrees))


def _draw_brush(rle: Any, height: int, width: int) -> Patch:
    """Return the pixels that a brush has painted.

    Raises:
        AnnotationError: The run lengths are broken, or for an image of another size.
    """
    values = decode_brush(rle, height * width * 4)
    return Patch(0, 0, values.reshape(height, width, 4)[..., 3] >= OPAQUE)


def decode_brush(rle: Any, count: int) -> np.ndarray:
    """Decode the bytes of a brush: runs of equal values and of different ones, packed bit by bit.

    Args:
        rle: A list of bytes.
        count: Number of values that it has to hold.
    Returns:
        (N,) uint8, or int64 if values have more bits.
    Raises:
        AnnotationError: It is broken, or holds another number of values.
    Source: @thi.ng/rle-pack, with which Label Studio encodes.
    """
    if not isinstance(rle, list) or not all(type(byte) is int and 0 <= byte < 256 for byte in rle):
        raise AnnotationError("broken-rle", "no list of bytes")
    bits = np.unpackbits(np.array(rle, np.uint8))
    text = (bits + ord("0")).tobytes().decode()
    position = 0

    def take(size: int) -> slice:
        nonlocal position
        position += size
        if position > len(text):
            raise AnnotationError("broken-rle", "cut off")
        return slice(position - size, position)

    def read(size: int) -> int:
        return int(text[take(size)], 2)

    if read(32) != count:
        raise AnnotationError("broken-rle", "for another number of pixels")
    word_bits = read(5) + 1
    size_bits = [read(4) + 1 for _ in range(4)]
    powers = 1 << np.arange(word_bits - 1, -1, -1, dtype=np.int64)
    values = np.empty(count, np.uint8 if word_bits <= 8 else np.int64)
    start = 0
    while start < count:
        is_run = read(1)
        end = start + 1 + read(size_bits[read(2)])
        if end > count:
            raise AnnotationError("broken-rle", "it holds more values than it says")
        if is_run:
            values[start:end] = read(word_bits)
        else:
            values[start:end] = bits[take((end - start) * word_bits)].reshape(-1, word_bits) @ powers
        start = end
    return values


LABEL_STUDIO = Converter(_recognise, _read, "Label Studio's JSON")
