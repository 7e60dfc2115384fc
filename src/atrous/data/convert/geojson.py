"""GeoJSON: a file for each image, with polygons that may have holes.

Coordinates are those of the image's coordinate reference system if it is a GeoTIFF that names one, and else pixels: x
to the right and y down from the upper left corner of the image. Later polygons are on top.
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atrous.core.files import save_text
from atrous.data.convert.contracts import (
    AnnotatedImage,
    AnnotationError,
    Annotations,
    Converter,
    Export,
    LabelledImage,
    Patch,
    Region,
    Request,
)
from atrous.data.convert.files import iter_heads, read_json, read_label
from atrous.data.convert.images import join_name
from atrous.data.convert.shapes import fill_polygon, join_patches, read_points
from atrous.data.convert.tracing import FARTHEST_PX, Outline, find_outlines
from atrous.images.place import Place, read_place

_COLLECTION = re.compile(r'"type"\s*:\s*"FeatureCollection"')
_NUMBER = re.compile(r"EPSG:.*?([0-9]+)$")
_WGS84 = 4326
_LABELS = ("class", "label", "name", "classification")
"""Properties that may name the class; in one of QuPath's it has a name of its own."""


def _recognise(source: Path) -> bool:
    return any(_COLLECTION.search(head) for head in iter_heads(source, ".geojson"))


def _read(request: Request) -> Annotations:
    images = []
    for file in request.iter_files(".geojson"):
        with request.collecting(file):
            images.append(_read_image(read_json(file), file, request))
    labels = sorted({region.label for item in images for region in item.regions})
    notes = request.list_unused({item.image for item in images}, "a GeoJSON file")
    return Annotations(tuple(images), names=tuple(labels), notes=notes)


def _read_image(content: Any, file: Path, request: Request) -> AnnotatedImage:
    """Read the annotations of one image.

    Raises:
        AnnotationError: There is no such image, or several, or the coordinates are of another system.
    """
    if not isinstance(content, dict) or not isinstance(content.get("features"), list):
        raise AnnotationError("broken-annotation", "no collection of features")
    path = content.get("image")
    name = join_name(file.parent, path) if isinstance(path, str) else ""
    image = request.find_image(name, file.parent)
    found = [image] if image is not None else request.finder.find_by_stem(file.with_suffix("").as_posix())
    if len(found) != 1:
        reason = "there is no image of the name" if not found else "several images have the name"
        raise AnnotationError("missing-image", f"{reason} {file.stem[:200]!r}")
    place = _find_place(content, found[0])
    regions = []
    for number, feature in enumerate(content["features"], start=1):
        with request.collecting(file, f"feature {number}"):
            regions.append(_read_feature(feature, f"feature {number}", place))
    height, width = content.get("height"), content.get("width")
    size = (height, width) if place is None and type(height) is int and type(width) is int else None
    own = name if image is not None else file.with_suffix("").as_posix()
    return AnnotatedImage(str(file), found[0], request.finder.get_key(found[0]), tuple(regions), size, name=own)


def _find_place(content: dict[str, Any], image: Path) -> Place | None:
    """Return the map of the coordinates of a file; None if they are pixels.

    Raises:
        AnnotationError: They are of another system than the image's.
    """
    place = read_place(image)
    epsg = place.epsg if place is not None else None
    crs = content.get("crs")
    if crs is None:  # then it is WGS 84 by the standard, which no image without a place can have
        return place if epsg == _WGS84 and content.get("coordinates") != "pixels" else None
    try:
        name = str(crs["properties"]["name"])
    except (TypeError, KeyError):
        name = str(crs)
    number = _NUMBER.search(name)
    own = _WGS84 if name.endswith("CRS84") else int(number[1]) if number and len(number[1]) < 9 else None
    if own is None or own != epsg:
        raise AnnotationError(
            "wrong-size",
            f"its coordinates are of {name[:80]!r}, and its image has {f'EPSG:{epsg}' if epsg else 'none'}",
        )
    return place


def _read_feature(feature: Any, where: str, place: Place | None) -> Region:
    """Read one annotation.

    Raises:
        AnnotationError: It cannot be drawn.
    """
    geometry = feature.get("geometry") if isinstance(feature, dict) else None
    if not isinstance(geometry, dict):
        raise AnnotationError("broken-annotation", "no feature with a geometry")
    properties = feature.get("properties")
    values = [properties.get(name) for name in _LABELS] if isinstance(properties, dict) else []
    named = [read_label(value.get("name") if isinstance(value, dict) else value) for value in values]
    label = next((text for text in named if text), "")
    if not label:
        raise AnnotationError("unknown-label", f"none of its properties {', '.join(_LABELS)} is the name of a class")
    kind, rings = geometry.get("type"), geometry.get("coordinates")
    if kind not in ("Polygon", "MultiPolygon"):
        raise AnnotationError("broken-annotation", f"a {str(kind)[:50]} has no area")
    polygons = [rings] if kind == "Polygon" else rings
    if not isinstance(polygons, list) or not polygons or not all(isinstance(part, list) and part for part in polygons):
        raise AnnotationError("broken-annotation", "a polygon without rings")
    found = [[_read_ring(ring, place) for ring in part] for part in polygons]
    return Region(label, where, functools.partial(_draw, found))


def _read_ring(ring: Any, place: Place | None) -> np.ndarray:
    """Return the points of a ring in pixels, without heights.

    Raises:
        AnnotationError: It is no list of points of an image.
    """
    flat = [point[:2] if isinstance(point, list) else point for point in ring] if isinstance(ring, list) else ring
    if place is not None:
        try:
            flat = place.find_points(np.array(flat, np.float64).reshape(-1, 2)).tolist()
        except (ValueError, TypeError, OverflowError) as error:
            raise AnnotationError("broken-annotation", "its points are no list of x and y") from error
    return read_points(flat, 4)  # the last point is the first one


def _draw(polygons: Sequence[Sequence[np.ndarray]], height: int, width: int) -> Patch:
    return join_patches([_cut_holes([fill_polygon(ring, height, width) for ring in rings]) for rings in polygons])


def _cut_holes(patches: Sequence[Patch]) -> Patch:
    """Return the pixels of the first patch that are in none of the others."""
    frame = join_patches(patches)
    pixels = np.zeros_like(frame.pixels)
    for number, patch in enumerate(patches):
        height, width = patch.pixels.shape
        part = pixels[patch.top - frame.top :, patch.left - frame.left :][:height, :width]
        part[patch.pixels] = number == 0
    return Patch(frame.top, frame.left, pixels, frame.beyond_px)


def _write(export: Export) -> None:
    """Write a file for each image, with a polygon for each region."""
    for item in export.images:
        text = json.dumps(_describe_image(item, export), separators=(",", ":"), allow_nan=False)
        save_text(export.folder / f"{item.key}.geojson", text + "\n")


def _describe_image(item: LabelledImage, export: Export) -> dict[str, Any]:
    place = read_place(item.image)
    if place is not None and place.epsg is None:  # a system without a name would be taken for another one
        place = None
    labels = item.read()
    features = [
        _describe_outline(outline, export.get_name(outline.id), place)
        for outline in find_outlines(labels)
        if outline.id != export.background
    ]
    height, width = labels.shape
    content: dict[str, Any] = {"type": "FeatureCollection", "image": item.image.name, "height": height, "width": width}
    if place is None:
        content |= {"coordinates": "pixels", "axes": "x to the right, y down, from the upper left corner of the image"}
    else:
        name = "OGC:1.3:CRS84" if place.epsg == _WGS84 else f"EPSG::{place.epsg}"
        content |= {"coordinates": f"EPSG:{place.epsg}"}
        content |= {"crs": {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{name}"}}}
    return content | {"farthest_px": round(FARTHEST_PX, 2), "features": features}


def _describe_outline(outline: Outline, name: str, place: Place | None) -> dict[str, Any]:
    holes = [hole for hole in find_outlines((outline.filled & ~outline.pixels).astype(np.uint8)) if hole.id]
    corner = np.array([outline.left, outline.top])
    rings = [outline.trace_edge(), *(hole.trace_edge() + corner for hole in holes)]
    count = int(np.count_nonzero(outline.pixels))
    properties: dict[str, Any] = {"class": name, "id": outline.id, "pixels": count}
    if place is not None and place.pixel_m2 is not None:
        properties["m2"] = count * place.pixel_m2
    coordinates = [_close(ring, place, is_hole=number > 0) for number, ring in enumerate(rings)]
    return {
        "type": "Feature",
        "properties": properties,
        "geometry": {"type": "Polygon", "coordinates": coordinates},
    }


def _close(ring: np.ndarray, place: Place | None, *, is_hole: bool) -> list[list[float]]:
    """Return a ring as GeoJSON has it: closed, counterclockwise where y is up, and clockwise if it is a hole."""
    points = ring
    if place is not None:
        decimals = 3 - math.floor(math.log10(np.abs(np.array(place.matrix)[:, :2]).max()))
        points = place.locate(ring).round(decimals)
    x, y = points.T
    area = float(x @ np.roll(y, -1) - y @ np.roll(x, -1))
    if (area < 0) != is_hole:
        points = points[::-1]
    closed: list[list[float]] = np.concatenate([points, points[:1]]).tolist()
    return closed


GEOJSON = Converter(_recognise, _read, "GeoJSON files with polygons, one for each image", _write, "{key}.geojson")
