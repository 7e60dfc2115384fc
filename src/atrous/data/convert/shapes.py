"""Regions as pixels: polygons, ellipses, run lengths, and the shapes that labelme draws.

A pixel belongs to a polygon or an ellipse if its centre is inside; the pixel in row i and column j covers the square
from (j, i) to (j + 1, i + 1). Of a polygon that crosses itself, what is enclosed an even number of times is outside.
labelme counts differently, so its shapes are drawn as it draws them, with Pillow: coordinates are centres of pixels,
and the outline belongs to the shape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from atrous.data.convert.contracts import AnnotationError, Patch

FARTHEST = 1e6
"""Largest coordinate, in pixels: no image is as large, and drawing takes as long as a shape is large."""
LARGEST_RADIUS = 20_000
"""Largest radius of a circle, in pixels: Pillow takes seconds for a larger one, even if the image has a part of it."""
CROSSINGS_AT_ONCE = 2**20


def read_points(value: Any, least: int) -> np.ndarray:
    """Read a list of points, or a flat list of their coordinates.

    Args:
        value: What a file holds.
        least: Number of points that the shape needs.
    Returns:
        (N, 2) float64, x and y.
    Raises:
        AnnotationError: It is no such list, or has too few points or coordinates that no image has.
    """
    try:
        points = np.array(value, np.float64) if isinstance(value, list | tuple) else np.array("")
        if points.ndim == 1 and points.size % 2 == 0:
            points = points.reshape(-1, 2)
    except (ValueError, TypeError, OverflowError):
        points = np.array("")
    if points.ndim != 2 or points.shape[1] != 2:
        raise AnnotationError("broken-annotation", "its points are no list of x and y")
    if len(points) < least:
        raise AnnotationError("too-few-points", f"{len(points)} of at least {least} points")
    if not np.isfinite(points).all():
        raise AnnotationError("broken-annotation", "a coordinate is no finite number")
    if np.abs(points).max() > FARTHEST:
        raise AnnotationError("outside", f"a coordinate is {np.abs(points).max():g} pixels away")
    return points


def fill_polygon(points: np.ndarray, height: int, width: int) -> Patch:
    """Return the pixels whose centre is inside a polygon, by the even-odd rule.

    Args:
        points: Its corners, x and y.
        height: Height of the image in pixels.
        width: Its width.
    Shapes:
        points (N, 2) float64.
    """
    x, y = points.T
    next_x, next_y = np.roll(x, -1), np.roll(y, -1)
    # An edge crosses the centres of the rows first to last - 1.
    first = np.clip(np.ceil(np.minimum(y, next_y) - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(y, next_y) - 0.5), 0, height).astype(np.int64)
    left, right = (int(np.clip(bound, 0, width)) for bound in (math.floor(x.min()), math.ceil(x.max())))
    top, bottom = int(first.min()), int(last.max())
    crossings = np.zeros((bottom - top, right - left + 1), np.uint8)  # modulo 256, of which the parity counts
    ends = np.cumsum(last - first)
    for start in range(0, int(ends[-1]), CROSSINGS_AT_ONCE):
        number = np.arange(start, min(start + CROSSINGS_AT_ONCE, int(ends[-1])))
        edge = np.searchsorted(ends, number, side="right")
        row = last[edge] - (ends[edge] - number)
        along = (row + 0.5 - y[edge]) * (next_x - x)[edge] / (next_y - y)[edge]
        column = np.ceil(x[edge] + along - 0.5)
        np.add.at(crossings, (row - top, np.clip(column, left, right).astype(np.int64) - left), 1)
    inside = np.bitwise_xor.accumulate(crossings & 1, axis=1)[:, :-1]
    return Patch(top, left, inside.astype(bool), _measure_beyond(points, height, width))


def _measure_beyond(points: np.ndarray, height: int, width: int) -> float:
    """Return how far the farthest point is outside an image, in pixels; 0 if all are inside."""
    return float(max(0.0, -points.min(), (points - (width, height)).max()))


def turn_box(box: tuple[float, float, float, float], pivot: tuple[float, float], degrees: float) -> np.ndarray:
    """Return the corners (N, 2) of a box that is turned clockwise, N being 4.

    Args:
        box: Its left, upper, right and lower side.
        pivot: x and y of the point about which it is turned.
        degrees: How far it is turned.
    Raises:
        AnnotationError: A coordinate that no image has.
    """
    left, top, right, bottom = box
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)]) - pivot
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned = corners @ np.array([[cosine, sine], [-sine, cosine]]) + pivot
    return read_points(turned.tolist(), 4)


def fill_ellipse(
    centre: tuple[float, float], radii: tuple[float, float], degrees: float, height: int, width: int
) -> Patch:
    """Return the pixels whose centre is inside an ellipse.

    Args:
        centre: x and y in pixels.
        radii: Along x and along y before it is turned.
        degrees: How far it is turned, clockwise.
        height: Height of the image in pixels.
        width: Its width.
    Raises:
        AnnotationError: A number that no image has.
    """
    numbers = read_points([centre, radii, (degrees, 0.0)], 3)
    if numbers[1].min() <= 0:
        raise AnnotationError("broken-annotation", "an ellipse without an extent")
    reach = numbers[1].max()
    left, top = (int(np.clip(math.floor(c - reach), 0, most)) for c, most in zip(centre, (width, height), strict=True))
    right, bottom = (
        int(np.clip(math.ceil(c + reach), 0, most)) for c, most in zip(centre, (width, height), strict=True)
    )
    across = np.arange(left, right)[None] + 0.5 - centre[0]
    down = np.arange(top, bottom)[:, None] + 0.5 - centre[1]
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    along_x = (across * cosine + down * sine) / radii[0]
    along_y = (down * cosine - across * sine) / radii[1]
    return Patch(top, left, along_x**2 + along_y**2 <= 1)


def join_patches(patches: Sequence[Patch]) -> Patch:
    """Return the pixels that are in any of some patches, at least one."""
    top, left = min(patch.top for patch in patches), min(patch.left for patch in patches)
    bottom = max(patch.top + patch.pixels.shape[0] for patch in patches)
    right = max(patch.left + patch.pixels.shape[1] for patch in patches)
    joined = np.zeros((bottom - top, right - left), bool)
    for patch in patches:
        height, width = patch.pixels.shape
        joined[patch.top - top :, patch.left - left :][:height, :width] |= patch.pixels
    return Patch(top, left, joined, max(patch.beyond_px for patch in patches))


def fill_runs(counts: Sequence[int], height: int, width: int, *, by_column: bool) -> np.ndarray:
    """Return what run lengths stand for: runs of 0 and of 1 in turn, beginning with 0.

    Args:
        counts: Lengths of the runs.
        height: Height in pixels.
        width: Width.
        by_column: Whether the runs go down the columns, as in COCO, instead of along the rows.
    Returns:
        (H, W) bool.
    Raises:
        AnnotationError: The runs do not fill the size exactly.
    """
    if not all(type(count) is int and count >= 0 for count in counts) or sum(counts) != height * width:
        raise AnnotationError("broken-rle", f"its runs do not fill {height}x{width} pixels (height x width)")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(width, height).T if by_column else flat.reshape(height, width)


def draw_shape(kind: str, points: np.ndarray, line_width_px: int, height: int, width: int) -> Patch:
    """Draw a shape as labelme does.

    Args:
        kind: polygon, rectangle, circle, line or point; the first two points of a circle are its centre and a point on
            it.
        points: x and y of its points.
        line_width_px: Width of a line, and diameter of a point, in pixels.
        height: Height of the image.
        width: Its width.
    Shapes:
        points (N, 2) float64.
    Raises:
        AnnotationError: The radius of a circle is too large.
    """
    beyond_px = _measure_beyond(points, height, width)
    if kind in ("circle", "point"):
        radius = math.dist(*points[:2]) if kind == "circle" else line_width_px / 2
        if radius > LARGEST_RADIUS:
            raise AnnotationError("outside", f"its radius is {radius:g} pixels, more than {LARGEST_RADIUS:,}")
        points = np.array([points[0] - radius, points[0] + radius])
    margin = line_width_px + 1
    low, high = np.floor(points.min(axis=0)) - margin, np.ceil(points.max(axis=0)) + margin + 1
    left, top = (int(np.clip(low[axis], 0, most)) for axis, most in ((0, width), (1, height)))
    right, bottom = (int(np.clip(high[axis], 0, most)) for axis, most in ((0, width), (1, height)))
    if right <= left or bottom <= top:
        return Patch(0, 0, np.zeros((0, 0), bool), beyond_px)
    canvas = Image.new("L", (right - left, bottom - top))
    draw = ImageDraw.Draw(canvas)
    corners = [(x - left, y - top) for x, y in points.tolist()]
    if kind == "polygon":
        draw.polygon(corners, fill=1, outline=1)
    elif kind == "line":
        draw.line(corners, fill=1, width=line_width_px)
    else:
        low_x, low_y = points.min(axis=0) - (left, top)  # a rectangle may also have all of its corners
        high_x, high_y = points.max(axis=0) - (left, top)
        box = (float(low_x), float(low_y), float(high_x), float(high_y))
        (draw.rectangle if kind == "rectangle" else draw.ellipse)(box, fill=1, outline=1)
    return Patch(top, left, np.asarray(canvas).astype(bool), beyond_px)
