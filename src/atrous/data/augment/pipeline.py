"""The augmentation of a training sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atrous.data.augment.geometric import PADDING_COLOUR, CropGeometry, apply_geometry, draw_geometry
from atrous.data.augment.photometric import jitter_colours


@dataclass(frozen=True)
class Augmentation:
    """Random scale, crop, mirroring and rotation of image and labels together, then random colours of the image.

    Args:
        crop: Side of the square crop in pixels.
        scale_range: Smallest and largest random scale.
        flip: Whether images are mirrored left-right at random.
        jitter: Strength of the colour changes, from 0 (none) to 1; only for RGB images of 8 bits.
        flip_vertical: Whether images are mirrored upside down at random.
        quarter_turns: Whether images are turned by 0, 90, 180 or 270 degrees at random.
        rotation: Largest angle in degrees of a random rotation to either side.
        padding: Values of the C bands beyond the border of the image.
    """

    crop: int
    scale_range: tuple[float, float] = (0.5, 2.0)
    flip: bool = True
    jitter: float = 0.0
    flip_vertical: bool = False
    quarter_turns: bool = False
    rotation: float = 0.0
    padding: tuple[float, ...] = PADDING_COLOUR

    def __call__(
        self,
        image: np.ndarray,
        labels: np.ndarray,
        generator: np.random.Generator,
        centre: tuple[int, int] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Augment an image and its labels.

        Args:
            image: The image.
            labels: Its class indices.
            generator: Source of all random draws.
            centre: See `draw_geometry`.
        Shapes:
            in (H, W, C) uint8, uint16 or float32 and (H, W) uint16; out the same types, (N, N, C) and (N, N), N the
            side of the crop.
        """
        geometry = self.draw((labels.shape[0], labels.shape[1]), generator, centre)
        return self.apply(image, labels, geometry, generator)

    def draw(
        self, size: tuple[int, int], generator: np.random.Generator, centre: tuple[int, int] | None = None
    ) -> CropGeometry:
        """Draw the geometry of a sample; see `draw_geometry`.

        Args:
            size: Height and width of its image.
            generator: Source of the draws.
            centre: Row and column of the pixel that the crop is centred on. Default: drawn.
        """
        return draw_geometry(
            size,
            self.crop,
            self.scale_range,
            generator,
            flip=self.flip,
            flip_vertical=self.flip_vertical,
            quarter_turns=self.quarter_turns,
            rotation=self.rotation,
            centre=centre,
        )

    def apply(
        self, image: np.ndarray, labels: np.ndarray, geometry: CropGeometry, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Augment an image and its labels by a geometry that has been drawn.

        Args:
            image: The image.
            labels: Its class indices.
            geometry: What was drawn.
            generator: Source of the geometry, and of the colours.
        Shapes:
            in (H, W, C) uint8, uint16 or float32 and (H, W) uint16; out the same types, (N, N, C) and (N, N).
        """
        image, labels = apply_geometry(image, labels, geometry, self.padding)
        return (jitter_colours(image, self.jitter, generator) if self.jitter > 0.0 else image), labels
