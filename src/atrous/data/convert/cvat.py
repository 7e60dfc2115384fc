"""CVAT for images 1.1: an XML file with polygons, boxes, ellipses, lines and masks.

A larger `z_order` is on top, and of two equal ones the later shape. Classes are in the order of the labels of the task.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from atrous.core.files import save_text
from atrous.core.labels import VOID_COLOUR
from atrous.data.convert.contracts import (
    IGNORED_NAME,
    AnnotatedImage,
    AnnotationError,
    Annotations,
    Converter,
    Export,
    Patch,
    Region,
    Request,
)
from atrous.data.convert.files import iter_heads, read_label, read_xml
from atrous.data.convert.shapes import draw_shape, fill_ellipse, fill_polygon, fill_runs, read_points, turn_box
from atrous.data.convert.tracing import find_needed_outlines

FILE = "annotations.xml"
_WITHOUT_AREA = ("points", "cuboid", "skeleton")


def _recognise(source: Path) -> bool:
    return any("<annotations>" in head for head in iter_heads(source, ".xml"))


def _read(request: Request) -> Annotations:
    images: list[AnnotatedImage] = []
    names: dict[str, None] = {}
    for file in request.iter_files(".xml"):
        with request.collecting(file):
            root = read_xml(file)
            names |= dict.fromkeys(read_label(label.findtext("name")) for label in root.iterfind("meta//label"))
            if root.find("track") is not None:
                raise AnnotationError("broken-file", "tracks of a video: export it as CVAT for images 1.1")
            for element in root.iterfind("image"):
                with request.collecting(file, f"image {str(element.get('name'))[:200]!r}"):
                    images.append(_read_image(element, file, request))
    used = {region.label for image in images for region in image.regions}
    names |= dict.fromkeys(sorted(used))  # a file without its meta element
    return Annotations(tuple(images), names=tuple(name for name in names if name))


def _read_image(element: Element, file: Path, request: Request) -> AnnotatedImage:
    """Read the annotations of one image.

    Raises:
        AnnotationError: There is no such image, or several.
    """
    image = request.require_image(element.get("name"), file.parent)
    shapes = [shape for shape in element if shape.tag != "tag"]
    regions = [
        (_read_number(shape, "z_order", "0"), region)
        for number, shape in enumerate(shapes, start=1)
        for region in _iter_region(shape, image.name, number, file, request)
    ]
    regions.sort(key=lambda pair: pair[0])
    size = (element.get("height", ""), element.get("width", ""))
    is_sized = all(side.isdecimal() and len(side) < 10 for side in size)
    return AnnotatedImage(
        str(file),
        image,
        request.finder.get_key(image),
        tuple(region for _, region in regions),
        (int(size[0]), int(size[1])) if is_sized else None,
    )


def _iter_region(shape: Element, name: str, number: int, file: Path, request: Request) -> Iterator[Region]:
    """Yield a shape, or report what is wrong with it."""
    where = f"image {name!r}, {shape.tag[:50]} {number}"
    with request.collecting(file, where):
        yield _read_shape(shape, where, request.line_width_px)


def _read_shape(shape: Element, where: str, line_width_px: int) -> Region:
    """Read one annotation.

    Raises:
        AnnotationError: It cannot be drawn.
    """
    label = read_label(shape.get("label"))
    if not label:
        raise AnnotationError("unknown-label", f"its label is {str(shape.get('label'))[:50]!r}")
    _read_number(shape, "z_order", "0")
    if shape.tag in ("polygon", "polyline"):
        points = _read_pairs(shape.get("points", ""), 3 if shape.tag == "polygon" else 2)
        if shape.tag == "polygon":
            return Region(label, where, functools.partial(fill_polygon, points))
        return Region(label, where, functools.partial(draw_shape, "line", points - 0.5, line_width_px))
    if shape.tag == "box":
        left, top, right, bottom = (_read_number(shape, name) for name in ("xtl", "ytl", "xbr", "ybr"))
        centre = ((left + right) / 2, (top + bottom) / 2)
        corners = turn_box((left, top, right, bottom), centre, _read_number(shape, "rotation", "0"))
        return Region(label, where, functools.partial(fill_polygon, corners))
    if shape.tag == "ellipse":
        x, y, rx, ry, degrees = (_read_number(shape, name, "0") for name in ("cx", "cy", "rx", "ry", "rotation"))
        return Region(label, where, functools.partial(fill_ellipse, (x, y), (rx, ry), degrees))
    if shape.tag == "mask":
        box = [int(_read_number(shape, name)) for name in ("left", "top", "width", "height")]
        return Region(label, where, functools.partial(_draw_mask, shape.get("rle", ""), *box))
    has_no_area = "has no area" if shape.tag in _WITHOUT_AREA else "is not known"
    raise AnnotationError("broken-annotation", f"a shape of the kind {shape.tag[:50]!r} {has_no_area}")


def _draw_mask(rle: str, left: int, top: int, box_width: int, box_height: int, height: int, width: int) -> Patch:
    """Return the pixels of run lengths along the rows of a box.

    Raises:
        AnnotationError: The box is not inside the image, or the run lengths are broken.
    """
    if not (0 <= left and 0 <= top and 0 < box_width <= width - left and 0 < box_height <= height - top):
        raise AnnotationError("outside", "its box is not inside the image")
    words = [word.strip() for word in rle.split(",")]
    if not all(word.isdecimal() and len(word) < 10 for word in words):
        raise AnnotationError("broken-rle", "its run lengths are no whole numbers")
    return Patch(top, left, fill_runs([int(word) for word in words], box_height, box_width, by_column=False))


def _read_pairs(text: str, least: int) -> np.ndarray:
    """Read points such as "1.5,2;3,4".

    Raises:
        AnnotationError: They are broken or too few.
    """
    try:
        return read_points([[float(number) for number in pair.split(",")] for pair in text.split(";") if pair], least)
    except ValueError as error:
        if isinstance(error, AnnotationError):
            raise
        raise AnnotationError("broken-annotation", "its points are no list of x and y") from error


def _read_number(shape: Element, name: str, default: str = "") -> float:
    """Read an attribute.

    Raises:
        AnnotationError: It is no finite number.
    """
    text = shape.get(name, default)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise AnnotationError("broken-annotation", f"its {name} is {text[:50]!r}")
    return number


def _write(export: Export) -> None:
    """Write polygons, what is in the holes of a region with a larger `z_order`."""
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    labels = SubElement(SubElement(SubElement(root, "meta"), "task"), "labels")
    space = export.label_space
    for name, colour in [*zip(space.names, space.colours, strict=True), (IGNORED_NAME, VOID_COLOUR)]:
        label = SubElement(labels, "label")
        SubElement(label, "name").text = name
        SubElement(label, "color").text = "#{:02x}{:02x}{:02x}".format(*colour)
        SubElement(label, "attributes")
    for index, item in enumerate(export.images):
        numbers = item.read()
        size = {"width": str(numbers.shape[1]), "height": str(numbers.shape[0])}
        image = SubElement(root, "image", {"id": str(index), "name": item.name, **size})
        for order, outline in enumerate(find_needed_outlines(numbers, export.background)):
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in outline.trace_edge().tolist())
            fields = {"label": export.get_name(outline.id), "source": "auto", "occluded": "0", "points": points}
            SubElement(image, "polygon", {**fields, "z_order": str(order)})
    indent(root)
    save_text(export.folder / FILE, tostring(root, encoding="unicode", xml_declaration=True) + "\n")


CVAT = Converter(_recognise, _read, "an XML file of CVAT for images 1.1", _write, FILE)
