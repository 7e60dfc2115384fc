"""Scale, crop and mirror an image with its labels, by one map for both."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from atrous.core.labels import IGNORE_INDEX

PADDING_COLOUR = (124, 116, 104)
"""RGB beyond the image's border: ImageNet's mean, so that it is near 0 after normalisation."""


@dataclass(frozen=True)
class CropGeometry:
    """Which part of the scaled image becomes the crop.

    Args:
        crop: Side of the crop in pixels.
        scale: Size of the scaled image / size of the image.
        top: First row of the crop in the scaled image; negative where rows above the image are padding.
        left: First column likewise.
        flip: Whether the crop is mirrored left-right.
    """

    crop: int
    scale: float
    top: int
    left: int
    flip: bool

    def compute_matrix(self) -> np.ndarray:
        """Return the (2, 3) map from a crop's (x, y) to the image's; pixels are areas, centres at half a pixel."""
        step = 1.0 / self.scale
        first_x = (self.left + 0.5) * step - 0.5
        first_y = (self.top + 0.5) * step - 0.5
        if self.flip:
            return np.array([[-step, 0.0, first_x + (self.crop - 1) * step], [0.0, step, first_y]])
        return np.array([[step, 0.0, first_x], [0.0, step, first_y]])


def draw_geometry(
    size: tuple[int, int], crop: int, scale_range: tuple[float, float], flip: bool, generator: np.random.Generator
) -> CropGeometry:
    """Draw scale (uniform), place (uniform over all that waste no padding) and mirroring.

    The number of draws does not depend on the options, so switching one off leaves the others as they were.

    Args:
        size: Height and width of the image.
        crop: Side of the crop in pixels.
        scale_range: Smallest and largest scale.
        flip: Whether mirroring may happen.
        generator: Source of the draws.
    """
    scale = float(generator.uniform(*scale_range))
    rooms = [round(side * scale) - crop for side in size]
    top, left = (int(generator.integers(min(room, 0), max(room, 0), endpoint=True)) for room in rooms)
    mirrored = bool(generator.random() < 0.5)
    return CropGeometry(crop, scale, top, left, flip and mirrored)


def apply_geometry(image: np.ndarray, labels: np.ndarray, geometry: CropGeometry) -> tuple[np.ndarray, np.ndarray]:
    """Sample the crop in one pass: the image bilinear, labels nearest, so that no new id can appear.

    Shapes:
        in (H, W, 3) uint8 and (H, W) uint16; out (crop, crop, 3) uint8 and (crop, crop) uint16, IGNORE_INDEX beyond
        the border.
    """
    matrix, size = geometry.compute_matrix(), (geometry.crop, geometry.crop)
    return (
        cv2.warpAffine(
            image,
            matrix,
            size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=PADDING_COLOUR,
        ),
        cv2.warpAffine(
            labels,
            matrix,
            size,
            flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=IGNORE_INDEX,
        ),
    )
