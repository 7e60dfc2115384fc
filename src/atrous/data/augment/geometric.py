"""Scale, crop, mirror and rotate an image with its labels, by one map for both.

A crop is cut out of the image first and scaled after that, so that no pixel is scaled in vain. Its window consists of
whole pixels of the image, and its scale follows: what is drawn, up to half a pixel in the side of the window.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from atrous.core.errors import DataError
from atrous.core.labels import IGNORE_INDEX

PADDING_COLOUR = (124, 116, 104)
"""RGB beyond the border of the image: the mean of ImageNet, which is near 0 after normalisation."""
MAX_SIDE_PX = 32_766
"""Longest side that OpenCV before version 5 can scale and rotate: its coordinates are 16-bit."""
_MOST_CHANNELS = 4
"""Channels that OpenCV scales and rotates at once in all its versions."""


@dataclass(frozen=True)
class Span:
    """One axis of a crop: the pixels of the image that it shows, and those of the crop that show them.

    Args:
        start: The first of the image's pixels.
        length: Their number, >= 1.
        before: Padding before the first of the crop's pixels.
        size: Their number, >= 1.
    """

    start: int
    length: int
    before: int
    size: int

    @property
    def step(self) -> float:
        """Pixels of the image per pixel of the crop."""
        return self.length / self.size

    @property
    def offset(self) -> float:
        """The point of the image that the centre of the crop's first pixel shows; pixels are areas."""
        return self.start + (0.5 - self.before) * self.step - 0.5


@dataclass(frozen=True)
class CropGeometry:
    """Which part of the image becomes the crop.

    It is first rotated, then mirrored, then turned.

    Args:
        crop: Side of the crop in pixels.
        rows: Its vertical axis.
        columns: Its horizontal axis.
        flip: Whether the crop is mirrored left-right.
        flip_vertical: Whether the crop is mirrored upside down.
        quarter_turns: Number of turns by 90 degrees, anticlockwise.
        rotation: Angle in degrees by which the crop is rotated about its centre, anticlockwise. What then comes into
            view is taken from the image.
    """

    crop: int
    rows: Span
    columns: Span
    flip: bool = False
    flip_vertical: bool = False
    quarter_turns: int = 0
    rotation: float = 0.0

    def find_window(self, size: tuple[int, int]) -> tuple[slice, slice]:
        """Return the rows and the columns of an image of this size that the crop needs."""
        spans = (self.rows, self.columns)
        if not self.rotation:
            return tuple(slice(span.start, span.start + span.length) for span in spans)  # type: ignore[return-value]
        last = self.crop - 1
        corners = self.compute_matrix() @ np.array([[0, last, 0, last], [0, 0, last, last], [1, 1, 1, 1]])
        window = []
        for points, side in zip(corners[::-1], size, strict=True):
            start = min(max(int(np.floor(points.min())) - 1, 0), side - 1)
            window.append(slice(start, max(min(int(np.ceil(points.max())) + 2, side), start + 1)))
        return window[0], window[1]

    def find_shown(self) -> tuple[slice, slice]:
        """Return the rows and the columns of the crop, mirrored but not turned, that show the image."""
        parts = []
        for span, is_mirrored in ((self.rows, self.flip_vertical), (self.columns, self.flip)):
            before = self.crop - span.before - span.size if is_mirrored else span.before
            parts.append(slice(before, before + span.size))
        return parts[0], parts[1]

    def compute_matrix(self) -> np.ndarray:
        """Return the map from (x, y) in the crop, before it is turned and mirrored, to the image.

        Shapes:
            out (2, 3): a matrix and an offset.
        """
        cosine, sine = np.cos(np.radians(self.rotation)), np.sin(np.radians(self.rotation))
        centre = np.full(2, (self.crop - 1) / 2)
        turn = np.array([[cosine, -sine], [sine, cosine]])
        steps = np.array([self.columns.step, self.rows.step])
        offset = np.array([self.columns.offset, self.rows.offset]) + steps * (centre - turn @ centre)
        return np.column_stack([steps[:, None] * turn, offset])

    def shift(self, top: int, left: int) -> CropGeometry:
        """Return the same crop of an image whose first rows and columns are missing.

        Args:
            top: Number of missing rows.
            left: Number of missing columns.
        """
        rows, columns = replace(self.rows, start=self.rows.start - top), self.columns
        return replace(self, rows=rows, columns=replace(columns, start=columns.start - left))


def draw_geometry(
    size: tuple[int, int],
    crop: int,
    scale_range: tuple[float, float],
    generator: np.random.Generator,
    *,
    flip: bool = True,
    flip_vertical: bool = False,
    quarter_turns: bool = False,
    rotation: float = 0.0,
    centre: tuple[int, int] | None = None,
) -> CropGeometry:
    """Draw the scale (uniform), the position (uniform over all without needless padding), and the rest.

    The number of draws does not depend on the options, so switching one off leaves the others unchanged.

    Args:
        size: Height and width of the image.
        crop: Side of the square crop in pixels.
        scale_range: Smallest and largest scale: size of the scaled image / size of the image.
        generator: Source of the draws.
        flip: Whether the crop may be mirrored left-right.
        flip_vertical: Whether the crop may be mirrored upside down.
        quarter_turns: Whether it may be turned by 90, 180 and 270 degrees.
        rotation: Largest angle in degrees by which it is rotated to either side.
        centre: Row and column of the pixel that the crop is centred on, as far as it needs no padding for that.
            Default: drawn.
    """
    draws = generator.random(7).tolist()
    scale = scale_range[0] + (scale_range[1] - scale_range[0]) * draws[0]
    top, left = (None, None) if centre is None else centre
    return CropGeometry(
        crop,
        _place_span(size[0], crop, scale, draws[1], top),
        _place_span(size[1], crop, scale, draws[2], left),
        flip=flip and draws[3] < 0.5,
        flip_vertical=flip_vertical and draws[4] < 0.5,
        quarter_turns=int(4 * draws[5]) if quarter_turns else 0,
        rotation=rotation * (2.0 * draws[6] - 1.0),
    )


def _place_span(side: int, crop: int, scale: float, place: float, centre: int | None) -> Span:
    """Return an axis of a crop at a place from 0 to 1, 1 excluded, or centred on a pixel."""
    scaled = max(round(side * scale), 1)
    if scaled <= crop:
        return Span(0, side, int(place * (crop - scaled + 1)), scaled)
    length = min(max(round(crop / scale), 1), side)
    last = side - length
    start = int(place * (last + 1)) if centre is None else min(max(centre - length // 2, 0), last)
    return Span(start, length, 0, crop)


def apply_geometry(
    image: np.ndarray, labels: np.ndarray, geometry: CropGeometry, padding: tuple[float, ...] = PADDING_COLOUR
) -> tuple[np.ndarray, np.ndarray]:
    """Sample the crop: the image bilinear, labels nearest, so that no new id can appear.

    Args:
        image: The image.
        labels: Its class indices.
        geometry: Which part to sample.
        padding: Values of the C bands beyond the border of the image.
    Shapes:
        in (H, W, C) uint8, uint16 or float32 and (H, W) uint16; out the same types, (N, N, C) and (N, N), N the side
        of the crop, IGNORE_INDEX beyond the border.
    Raises:
        DataError: The crop shows a part of the image that is longer than OpenCV can scale or rotate.
    """
    rows, columns = geometry.find_window((labels.shape[0], labels.shape[1]))
    image, labels = image[rows, columns], labels[rows, columns]
    _require_short(max(labels.shape), geometry)
    if geometry.rotation:
        image, labels = _rotate(image, labels, geometry.shift(rows.start, columns.start), padding)
        down, across = -1 if geometry.flip_vertical else 1, -1 if geometry.flip else 1
        image, labels = image[::down, ::across], labels[::down, ::across]
    else:
        image, labels = _scale_image(image, geometry, padding), _scale_labels(labels, geometry)
    image, labels = (np.rot90(pixels, geometry.quarter_turns) for pixels in (image, labels))
    return np.ascontiguousarray(image), np.ascontiguousarray(labels)


def _require_short(length: int, geometry: CropGeometry) -> None:
    longest = max(geometry.crop, length)
    if longest > MAX_SIDE_PX:
        kind, less = ("rotated crop", "Set training.rotation to 0, or use") if geometry.rotation else ("crop", "Use")
        raise DataError(
            f"a {kind} of {geometry.crop:,} pixels takes {longest:,} pixels of an image, more than {MAX_SIDE_PX:,}",
            f"{less} a smaller training.crop or a larger training.scale_range.",
        )


def _scale_image(window: np.ndarray, geometry: CropGeometry, padding: tuple[float, ...]) -> np.ndarray:
    crop = np.empty((geometry.crop, geometry.crop, window.shape[2]), dtype=window.dtype)
    shown = crop[_surround(crop, geometry, padding)]
    size = (geometry.columns.size, geometry.rows.size)
    for few, into in zip(_iter_channels(window), _iter_channels(shown), strict=True):
        few = _mirror(few, geometry)
        if into is shown:
            cv2.resize(few, size, dst=into, interpolation=cv2.INTER_LINEAR)
        else:
            into[:] = cv2.resize(few, size, interpolation=cv2.INTER_LINEAR).reshape(into.shape)
    return crop


def _scale_labels(window: np.ndarray, geometry: CropGeometry) -> np.ndarray:
    """Return for each pixel the label of the pixel in which its centre is."""
    crop = np.empty((geometry.crop, geometry.crop), dtype=window.dtype)
    shown = crop[_surround(crop, geometry, (IGNORE_INDEX,))]
    size = (geometry.columns.size, geometry.rows.size)
    cv2.resize(_mirror(window, geometry), size, dst=shown, interpolation=cv2.INTER_NEAREST_EXACT)
    return crop


def _mirror(window: np.ndarray, geometry: CropGeometry) -> np.ndarray:
    """Mirror the part of an image that a crop shows, (H, W) or (H, W, C) with a few channels."""
    mirror = {(True, False): 1, (False, True): 0, (True, True): -1}.get((geometry.flip, geometry.flip_vertical))
    return window if mirror is None else cv2.flip(window, mirror)


def _surround(crop: np.ndarray, geometry: CropGeometry, values: tuple[float, ...]) -> tuple[slice, slice]:
    """Fill the padding of a crop before any turn, and return the part of it that shows the image.

    Args:
        crop: The crop, (N, N) or (N, N, C), changed in place.
        geometry: Its geometry.
        values: Padding, one value or one for each channel.
    """
    rows, columns = geometry.find_shown()
    line = np.empty(crop.shape[1:], dtype=crop.dtype)
    line[:] = values if crop.ndim == 3 else values[0]
    crop[: rows.start], crop[rows.stop :] = line, line  # whole rows are copied much faster than single pixels
    crop[rows, : columns.start], crop[rows, columns.stop :] = line[: columns.start], line[columns.stop :]
    return rows, columns


def _iter_channels(image: np.ndarray) -> Iterator[np.ndarray]:
    """Yield an image (H, W, C) with a few channels at a time."""
    if image.shape[2] <= _MOST_CHANNELS:
        yield image
        return
    for first in range(0, image.shape[2], _MOST_CHANNELS):
        yield image[..., first : first + _MOST_CHANNELS]


def _rotate(
    image: np.ndarray, labels: np.ndarray, geometry: CropGeometry, padding: tuple[float, ...]
) -> tuple[np.ndarray, np.ndarray]:
    matrix, size = geometry.compute_matrix(), (geometry.crop, geometry.crop)

    def warp(pixels: np.ndarray, values: list[float], method: int) -> np.ndarray:
        flags = method | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(pixels, matrix, size, flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=values)

    turned = np.empty((*size, image.shape[2]), dtype=image.dtype)
    colours = _iter_channels(np.array(padding)[None, None])
    for few, into, colour in zip(_iter_channels(image), _iter_channels(turned), colours, strict=True):
        into[:] = warp(np.ascontiguousarray(few), colour.ravel().tolist(), cv2.INTER_LINEAR).reshape(into.shape)
    return turned, warp(labels, [IGNORE_INDEX], cv2.INTER_NEAREST)
