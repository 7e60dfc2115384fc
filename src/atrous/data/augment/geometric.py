"""Scale, crop and mirror an image with its labels, by one map for both."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from atrous.core.errors import DataError
from atrous.core.labels import IGNORE_INDEX

PADDING_COLOUR = (124, 116, 104)
"""RGB beyond the border of the image: the mean of ImageNet, which is near 0 after normalisation."""
MOST_BANDS_AT_ONCE = 4
MAX_SIDE_PX = 32_766
"""Longest side that OpenCV before version 5 can warp: its coordinates are 16-bit."""


@dataclass(frozen=True)
class CropGeometry:
    """Which part of the scaled image becomes the crop.

    Args:
        crop: Side of the crop in pixels.
        scale: Size of the scaled image / size of the image.
        top: First row of the crop in the scaled image; negative if rows above the image are padding.
        left: First column likewise.
        flip: Whether the crop is mirrored left-right.
    """

    crop: int
    scale: float
    top: int
    left: int
    flip: bool

    def compute_matrix(self) -> np.ndarray:
        """Return the map from (x, y) in the crop to the image, whose pixels are areas with centres at half a pixel.

        Shapes:
            out (M, M + 1) with M = 2: a matrix and an offset.
        """
        step = 1.0 / self.scale
        first_x = (self.left + 0.5) * step - 0.5
        first_y = (self.top + 0.5) * step - 0.5
        if self.flip:
            return np.array([[-step, 0.0, first_x + (self.crop - 1) * step], [0.0, step, first_y]])
        return np.array([[step, 0.0, first_x], [0.0, step, first_y]])


def draw_geometry(
    size: tuple[int, int], crop: int, scale_range: tuple[float, float], flip: bool, generator: np.random.Generator
) -> CropGeometry:
    """Draw the scale (uniform), the position (uniform over all without needless padding) and mirroring.

    The number of draws does not depend on the options, so switching one off leaves the others unchanged.

    Args:
        size: Height and width of the image.
        crop: Side of the crop in pixels.
        scale_range: Smallest and largest scale.
        flip: Whether the crop may be mirrored.
        generator: Source of the draws.
    """
    scale = float(generator.uniform(*scale_range))
    rooms = [round(side * scale) - crop for side in size]
    top, left = (int(generator.integers(min(room, 0), max(room, 0), endpoint=True)) for room in rooms)
    mirrored = bool(generator.random() < 0.5)
    return CropGeometry(crop, scale, top, left, flip and mirrored)


def apply_geometry(
    image: np.ndarray, labels: np.ndarray, geometry: CropGeometry, padding: tuple[float, ...] = PADDING_COLOUR
) -> tuple[np.ndarray, np.ndarray]:
    """Sample the crop in one pass: the image bilinear, labels nearest, so that no new id can appear.

    Args:
        image: The image.
        labels: Its class indices.
        geometry: Which part to sample.
        padding: Values of the C bands beyond the border of the image.
    Shapes:
        in (H, W, C) uint8, uint16 or float32 and (H, W) uint16; out the same types, (N, N, C) and (N, N), N the side
        of the crop, IGNORE_INDEX beyond the border.
    Raises:
        DataError: The crop, or the part of the image that it shows, is longer than OpenCV can warp.
    """
    matrix, size = geometry.compute_matrix(), (geometry.crop, geometry.crop)
    if max(*labels.shape, geometry.crop) > MAX_SIDE_PX:
        image, labels, matrix = _cut_out(image, labels, geometry)
    return (
        _warp_image(image, matrix, size, padding),
        cv2.warpAffine(
            labels,
            matrix,
            size,
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=IGNORE_INDEX,
        ),
    )


def _warp_image(image: np.ndarray, matrix: np.ndarray, size: tuple[int, int], padding: tuple[float, ...]) -> np.ndarray:
    """Sample an image (H, W, C), four bands at a time, since OpenCV's border has no more."""
    parts = []
    for first in range(0, image.shape[2], MOST_BANDS_AT_ONCE):
        bands = slice(first, first + MOST_BANDS_AT_ONCE)
        part = cv2.warpAffine(
            image[..., bands],
            matrix,
            size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=padding[bands],
        )
        parts.append(part if part.ndim == 3 else part[..., None])
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def _cut_out(
    image: np.ndarray, labels: np.ndarray, geometry: CropGeometry
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the part of an image and its labels that a crop shows, with a margin, and the map to that part."""
    matrix = geometry.compute_matrix()
    parts: list[slice] = []
    for axis, side in ((0, labels.shape[1]), (1, labels.shape[0])):
        ends = matrix[axis, 2], matrix[axis, 2] + matrix[axis, axis] * (geometry.crop - 1)
        start = min(max(int(np.floor(min(ends))) - 2, 0), side - 1)
        stop = max(min(int(np.ceil(max(ends))) + 3, side), start + 1)
        matrix[axis, 2] -= start
        parts.append(slice(start, stop))
    columns, rows = parts
    longest = max(geometry.crop, columns.stop - columns.start, rows.stop - rows.start)
    if longest > MAX_SIDE_PX:
        raise DataError(
            f"a crop of {geometry.crop:,} pixels at scale {geometry.scale:.3g} takes {longest:,} pixels of an image "
            f"{labels.shape[0]}x{labels.shape[1]} (height x width), more than {MAX_SIDE_PX:,}",
            "Cut the images into tiles, or use a smaller training.crop or a larger training.scale_range.",
        )
    return image[rows, columns], labels[rows, columns], matrix
