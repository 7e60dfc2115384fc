"""COCO: one JSON file for many images, with polygons and run lengths.

Annotations have no order: where they overlap, the smaller one is on top. Several polygons of one annotation are parts
of one region. Ids of categories are kept, unless one is 0, which is background, or 255.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from atrous.core.errors import DataError
from atrous.core.files import save_json
from atrous.core.records import Note
from atrous.core.words import describe_count
from atrous.data.convert.contracts import (
    BACKGROUND_NAMES,
    IGNORED_NAME,
    IGNORED_NAMES,
    AnnotatedImage,
    AnnotationError,
    Annotations,
    Converter,
    Export,
    Patch,
    Problem,
    Region,
    Request,
)
from atrous.data.convert.files import iter_heads, read_json, read_label
from atrous.data.convert.shapes import fill_polygon, fill_runs, join_patches, read_points
from atrous.data.convert.tracing import Outline, find_outlines

FILE = "annotations.json"
_LISTS = ("images", "annotations", "categories")
"""What a file of objects has; captions have no categories, and files of images alone no annotations."""
_KEYS = re.compile(r'^\{.*"(?:images|annotations|categories|info)"\s*:', re.DOTALL)
_SPLIT = re.compile(r"(?<![a-z])(train|val|valid|validation|test)(?![a-z])", re.IGNORECASE)


def _recognise(source: Path) -> bool:
    return any(_KEYS.match(head) and '"shapes"' not in head for head in iter_heads(source, ".json"))


def _read(request: Request) -> Annotations:
    images: list[AnnotatedImage] = []
    categories: dict[int, str] = {}
    foreign = 0
    for file in request.iter_files(".json"):
        with request.collecting(file):
            content = read_json(file)
            rows = [content.get(name) for name in _LISTS] if isinstance(content, dict) else []
            if not rows or not all(isinstance(row, list) for row in rows):
                foreign += 1
            elif any(isinstance(row, dict) and "segments_info" in row for row in content["annotations"][:1]):
                raise AnnotationError("broken-file", "panoptic masks: give the file of instances or stuff instead")
            else:
                own = _read_categories(content, file, request)
                for category, name in own.items():
                    if categories.setdefault(category, name) != name:
                        raise DataError(
                            f"{file}: category {category} is {name!r}, and elsewhere {categories[category]!r}"
                        )
                images += _read_images(content, own, file, request)
    notes = [Note("foreign-files", f"{describe_count(foreign, 'JSON file')} without annotated objects skipped")]
    unused = request.list_unused({item.image for item in images}, "an entry in the JSON file")
    numbered = _number(tuple(images), categories)
    return replace(numbered, notes=(*numbered.notes, *notes[: bool(foreign)], *unused))


def _number(images: tuple[AnnotatedImage, ...], categories: dict[int, str]) -> Annotations:
    """Keep the ids of the categories if possible."""
    used = {region.label for image in images for region in image.regions}
    kept = {number: name for number, name in sorted(categories.items()) if number > 0 or name in used}
    special = BACKGROUND_NAMES | IGNORED_NAMES
    labels = tuple(name for name in kept.values() if name.lower() in special)
    kept = {number: name for number, name in kept.items() if name.lower() not in special}
    is_distinct = len(set(kept.values())) == len(kept)
    if is_distinct and all(0 < number < 65535 and number != 255 for number in kept):
        return Annotations(images, classes=kept, names=labels, smaller_on_top=True)
    note = Note("ids-changed", "the ids of the categories cannot be kept: classes are numbered from 1 in their order")
    return Annotations(images, names=(*kept.values(), *labels), smaller_on_top=True, notes=(note,))


def _read_categories(content: dict[str, Any], file: Path, request: Request) -> dict[int, str]:
    found = {}
    for row in content["categories"]:
        number = row.get("id") if isinstance(row, dict) else None
        name = read_label(row.get("name")) if isinstance(row, dict) else ""
        if type(number) is int and name:
            found[number] = name
        else:
            request.report(Problem("broken-annotation", str(file), f"a category without id or name: {str(row)[:80]}"))
    return found


def _read_images(
    content: dict[str, Any], categories: dict[int, str], file: Path, request: Request
) -> list[AnnotatedImage]:
    regions: dict[Any, list[Region]] = {}
    known = Counter(row.get("id") for row in content["images"] if isinstance(row, dict) and _is_id(row.get("id")))
    for number, row in enumerate(content["annotations"], start=1):
        where = f"annotation {row.get('id', number)}" if isinstance(row, dict) else f"annotation {number}"
        with request.collecting(file, where):
            image, region = _read_annotation(row, where, categories)
            if image not in known:
                raise AnnotationError("missing-image", f"its image_id {str(image)[:50]!r} is not listed")
            regions.setdefault(image, []).append(region)
    found = []
    for row in content["images"]:
        with request.collecting(file):
            image_item = _read_image(row, regions, file, request)
            if known[row["id"]] > 1:
                raise AnnotationError("duplicate-name", f"the id {str(row['id'])[:50]} is that of several images")
            found.append(image_item)
    return found


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _read_image(row: Any, regions: dict[Any, list[Region]], file: Path, request: Request) -> AnnotatedImage:
    """Read an entry of the list of images.

    Raises:
        AnnotationError: There is no such image, or several.
    """
    if not isinstance(row, dict) or not _is_id(row.get("id")) or not isinstance(row.get("file_name"), str):
        raise AnnotationError("broken-annotation", f"an image without id or file_name: {str(row)[:80]}")
    split = _name_split(file)
    image = request.require_image(row["file_name"], _find_split_folder(request, split) or file.parent)
    key = request.finder.get_key(image)
    first, _, rest = key.partition("/")
    if split:
        key = f"{split}/{rest if rest and split in _SPLIT.findall(first.lower()) else key}"
    height, width = row.get("height"), row.get("width")
    size = (height, width) if type(height) is int and type(width) is int else None
    return AnnotatedImage(str(file), image, key, tuple(regions.get(row["id"], ())), size, name=row["file_name"])


def _read_annotation(row: Any, where: str, categories: dict[int, str]) -> tuple[Any, Region]:
    """Read an annotation, and return it with the id of its image.

    Raises:
        AnnotationError: It cannot be drawn.
    """
    if not isinstance(row, dict) or not _is_id(row.get("image_id")):
        raise AnnotationError("broken-annotation", "no object with an image_id")
    category = row.get("category_id")
    if type(category) is not int or category not in categories:
        raise AnnotationError("unknown-label", f"its category_id {str(category)[:50]!r} is not listed")
    segmentation = row.get("segmentation")
    if isinstance(segmentation, dict):
        draw = functools.partial(_draw_runs, segmentation.get("size"), segmentation.get("counts"))
    elif isinstance(segmentation, list) and segmentation:
        parts = segmentation if isinstance(segmentation[0], list) else [segmentation]
        draw = functools.partial(_draw_polygons, [read_points(part, 3) for part in parts])
    else:
        raise AnnotationError("broken-annotation", "without a segmentation")
    return row["image_id"], Region(categories[category], where, draw)


def _draw_polygons(polygons: Sequence[np.ndarray], height: int, width: int) -> Patch:
    return join_patches([fill_polygon(points, height, width) for points in polygons])


def _draw_runs(size: Any, counts: Any, height: int, width: int) -> Patch:
    """Return the pixels of run lengths.

    Raises:
        AnnotationError: They are not for an image of this size, or broken.
    """
    if size != [height, width]:
        raise AnnotationError("wrong-size", f"its run lengths are for {str(size)[:50]} (height, width)")
    if isinstance(counts, str):
        counts = decode_counts(counts)
    if not isinstance(counts, list):
        raise AnnotationError("broken-rle", "without counts")
    return Patch(0, 0, fill_runs(counts, height, width, by_column=True))


def decode_counts(text: str) -> list[int]:
    """Return the run lengths in a string of COCO's: in groups of 5 bits, from the fourth on less the one before last.

    Raises:
        AnnotationError: It is no such string.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64 or shift > 60:
            raise AnnotationError("broken-rle", f"its run lengths hold {character!r}")
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (group & 16) and (1 << shift)
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise AnnotationError("broken-rle", "its run lengths are cut off")
    return counts


def _find_split_folder(request: Request, split: str) -> Path | None:
    """Return the folder beside the annotations' or above it that is named after a split; None if there is none."""
    folders = [path for path in request.root.iterdir() if split and path.is_dir()]
    return next((path for path in folders if split in _SPLIT.findall(path.name.lower())), None)


def _name_split(file: Path) -> str:
    """Return the split of a file of annotations, by its name or its folder's: "train" of instances_train2017."""
    found = _SPLIT.findall(file.stem) or _SPLIT.findall(file.parent.name)
    return found[-1].lower() if found else ""


def _write(export: Export) -> None:
    """Write an annotation for each region: a polygon, or run lengths where it has holes, which polygons cannot have."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, item in enumerate(export.images, start=1):
        labels = item.read()
        height, width = labels.shape
        images.append({"id": number, "file_name": item.name, "height": height, "width": width})
        for outline in find_outlines(labels):
            if outline.id != export.background:
                annotation = {"id": len(annotations) + 1, "image_id": number, "category_id": outline.id, "iscrowd": 0}
                annotations.append(annotation | _describe_outline(outline, height, width))
    space = export.label_space
    names = {**dict(zip(space.ids, space.names, strict=True)), space.void_id: IGNORED_NAME}
    used = {row["category_id"] for row in annotations}
    names |= {number: IGNORED_NAME for number in used if number not in names}
    categories = [{"id": number, "name": name} for number, name in sorted(names.items()) if number != export.background]
    save_json(export.folder / FILE, {"images": images, "annotations": annotations, "categories": categories})


def _describe_outline(outline: Outline, height: int, width: int) -> dict[str, Any]:
    segmentation: Any = [outline.trace_edge().ravel().tolist()]
    if outline.has_holes:
        whole = np.zeros((height, width), bool)
        part = outline.pixels.shape
        whole[outline.top : outline.top + part[0], outline.left : outline.left + part[1]] = outline.pixels
        segmentation = {"size": [height, width], "counts": count_runs(whole)}
    rows, columns = outline.pixels.shape
    return {
        "segmentation": segmentation,
        "area": int(np.count_nonzero(outline.pixels)),
        "bbox": [outline.left, outline.top, columns, rows],
    }


def count_runs(mask: np.ndarray) -> list[int]:
    """Return the run lengths of a mask down its columns, beginning with 0.

    Shapes:
        mask (H, W) bool.
    """
    flat = np.concatenate([[False], mask.T.ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    return [int(count) for count in np.diff(edges, prepend=0, append=mask.size)]


COCO = Converter(_recognise, _read, "COCO's JSON with images, annotations and categories", _write, FILE)
