"""CVAT for images 1.1, and for video 1.1: an XML file with polygons, boxes, ellipses, lines and masks.

A larger `z_order` is on top, and of two equal ones the later shape. Classes are in the order of the labels of the task.
CVAT writes the track of an object in a video at every frame, so nothing is interpolated here.
"""

from __future__ import annotations

import bisect
import functools
import math
import re
from pathlib import Path
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from atrous.core.errors import DataError
from atrous.core.files import save_text
from atrous.core.labels import VOID_COLOUR
from atrous.core.words import describe_count
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
_FRAME = re.compile(r"frame_(\d{6,9})", re.IGNORECASE)
"""The name of an image that CVAT saves of a video, without suffix."""
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STEP = re.compile(r"step\s*=\s*(\d{1,6})")


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
                images += _read_video(root, file, request)
            for element in root.iterfind("image"):
                with request.collecting(file, f"image {str(element.get('name'))[:200]!r}"):
                    images.append(_read_image(element, file, request))
    used = {region.label for image in images for region in image.regions}
    names |= dict.fromkeys(sorted(used))  # a file without its meta element
    notes = request.list_unused({item.image for item in images}, "an entry in the XML file")
    return Annotations(tuple(images), names=tuple(name for name in names if name), notes=notes)


def _read_image(element: Element, file: Path, request: Request) -> AnnotatedImage:
    """Read the annotations of one image.

    Raises:
        AnnotationError: There is no such image, or several.
    """
    image = request.require_image(element.get("name"), file.parent)
    shapes = [shape for shape in element if shape.tag != "tag"]
    regions = []
    for number, shape in enumerate(shapes, start=1):
        where = f"image {image.name!r}, {shape.tag[:50]} {number}"
        with request.collecting(file, where):
            regions.append(
                (_read_number(shape, "z_order", "0"), _read_shape(shape, shape.get("label"), where, request))
            )
    size = _read_size(element.get("height", ""), element.get("width", ""))
    return _build_image(file, image, regions, size, request, str(element.get("name")))


def _build_image(
    file: Path,
    image: Path,
    regions: list[tuple[float, Region]],
    size: tuple[int, int] | None,
    request: Request,
    name: str,
) -> AnnotatedImage:
    """Return an image whose regions are given with their `z_order`."""
    ordered = tuple(region for _, region in sorted(regions, key=lambda pair: pair[0]))
    return AnnotatedImage(str(file), image, request.finder.get_key(image), ordered, size, name=name)


def _read_size(height: str, width: str) -> tuple[int, int] | None:
    is_sized = all(side.isdecimal() and len(side) < 10 for side in (height, width))
    return (int(height), int(width)) if is_sized else None


def _read_video(root: Element, file: Path, request: Request) -> list[AnnotatedImage]:
    """Read the tracks of a video at the frames that are present as images.

    Raises:
        AnnotationError: There are no such images, or they are numbered differently.
    """
    frames = _find_frames(root, request)
    regions: dict[int, list[tuple[float, Region]]] = {number: [] for number in frames}
    for number, track in enumerate(root.iterfind("track"), start=1):
        where = f"track {str(track.get('id', number))[:20]}"
        with request.collecting(file, where):
            _read_track(track, where, regions, file, request)
            _require_every_frame(track, root, list(regions))
    size = _read_size(*(root.findtext(f"meta//original_size/{side}", "") for side in ("height", "width")))
    return [_build_image(file, image, regions[number], size, request, image.name) for number, image in frames.items()]


def _find_frames(root: Element, request: Request) -> dict[int, Path]:
    """Return the images of a video by the number of their frame.

    Raises:
        AnnotationError: There are none, several of one frame, or one beyond the end of the video.
    """
    found: dict[int, Path] = {}
    for path in request.finder:
        if match := _FRAME.fullmatch(path.stem):
            first = found.setdefault(int(match[1]), path)
            if first != path:
                raise AnnotationError("missing-image", f"{first} and {path} are one frame: convert each video alone")
    way_out = "export the task with its images, or as CVAT for images 1.1"
    if not found:
        raise AnnotationError("missing-image", f"no image is a frame of the video, such as frame_000000.png: {way_out}")
    last = root.findtext("meta//stop_frame", "")
    if last.isdecimal() and max(found) > int(last):
        message = (
            f"{found[max(found)].name} is after the last frame, {last}: frames are numbered differently; {way_out}"
        )
        raise AnnotationError("missing-image", message)
    return dict(sorted(found.items()))


def _read_track(
    track: Element, where: str, regions: dict[int, list[tuple[float, Region]]], file: Path, request: Request
) -> None:
    """Add the shapes of a track to the regions of the frames at which it is shown.

    Raises:
        AnnotationError: Its shapes have no area.
    """
    for shape in track:
        if shape.tag in _WITHOUT_AREA:
            raise AnnotationError("broken-annotation", f"a shape of the kind {shape.tag!r} has no area")
        number = _read_number(shape, "frame")
        if number in regions and shape.get("outside") != "1":
            place = f"{where}, frame {number:.0f}"
            with request.collecting(file, place):
                region = _read_shape(shape, track.get("label"), place, request)
                regions[int(number)].append((_read_number(shape, "z_order", "0"), region))


def _require_every_frame(track: Element, root: Element, frames: list[int]) -> None:
    """Refuse to be silent about frames between those at which a track is written.

    Raises:
        AnnotationError: There are some.
    """
    match = _STEP.search(root.findtext("meta//frame_filter", ""))
    step = int(match[1]) if match else 1
    shown = {int(_read_number(shape, "frame")): shape.get("outside") != "1" for shape in track}
    known = sorted(shown)
    missing = []
    for number in frames:
        index = bisect.bisect(known, number)
        is_open = index > 0 and shown[known[index - 1]]
        if is_open and number not in shown and (index < len(known) or number > known[-1] + step):
            missing.append(number)
    if missing:
        message = f"it is not written at {describe_count(len(missing), 'frame')}, such as {missing[0]}, as CVAT does"
        raise AnnotationError("broken-annotation", f"{message}: export the task again as CVAT for images 1.1")


def _read_shape(shape: Element, name: str | None, where: str, request: Request) -> Region:
    """Read one annotation.

    Raises:
        AnnotationError: It cannot be drawn.
    """
    label = read_label(name)
    if not label:
        raise AnnotationError("unknown-label", f"its label is {str(name)[:50]!r}")
    if shape.tag in ("polygon", "polyline"):
        points = _read_pairs(shape.get("points", ""), 3 if shape.tag == "polygon" else 2)
        if shape.tag == "polygon":
            return Region(label, where, functools.partial(fill_polygon, points))
        return Region(label, where, functools.partial(draw_shape, "line", points - 0.5, request.line_width_px))
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


def _require_text(name: str, what: str) -> None:
    """Refuse a name that no XML file can hold.

    Raises:
        DataError: It holds a control character, or bytes that are no text.
    """
    if _NOT_XML.search(name):
        raise DataError(f"{what} {name!r}: a character that XML cannot hold", "Rename it, or choose another format.")


def _write(export: Export) -> None:
    """Write polygons, what is in the holes of a region with a larger `z_order`."""
    space = export.label_space
    for name in space.names:
        _require_text(name, "class")
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    labels = SubElement(SubElement(SubElement(root, "meta"), "task"), "labels")
    for name, colour in [*zip(space.names, space.colours, strict=True), (IGNORED_NAME, VOID_COLOUR)]:
        label = SubElement(labels, "label")
        SubElement(label, "name").text = name
        SubElement(label, "color").text = "#{:02x}{:02x}{:02x}".format(*colour)
        SubElement(label, "attributes")
    for index, item in enumerate(export.images):
        _require_text(item.name, "image")
        numbers = item.read()
        size = {"width": str(numbers.shape[1]), "height": str(numbers.shape[0])}
        image = SubElement(root, "image", {"id": str(index), "name": item.name, **size})
        for order, outline in enumerate(find_needed_outlines(numbers, export.background)):
            points = ";".join(f"{x:.2f},{y:.2f}" for x, y in outline.trace_edge().tolist())
            fields = {"label": export.get_name(outline.id), "source": "auto", "occluded": "0", "points": points}
            SubElement(image, "polygon", {**fields, "z_order": str(order)})
    indent(root)
    save_text(export.folder / FILE, tostring(root, encoding="unicode", xml_declaration=True) + "\n")


CVAT = Converter(_recognise, _read, "an XML file of CVAT for images 1.1 or for video 1.1", _write, FILE)
