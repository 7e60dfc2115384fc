"""The augmentation of a training sample."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atrous.data.augment.geometric import PADDING_COLOUR, apply_geometry, draw_geometry
from atrous.data.augment.photometric import jitter_colours


@dataclass(frozen=True)
class Augmentation:
    """Random scale, crop and mirroring of image and labels together, then random colours of the image.

    Args:
        crop: Side of the square crop in pixels.
        scale_range: Smallest and largest random scale.
        flip: Whether images are mirrored left-right at random.
        jitter: Strength of the colour changes, from 0 (none) to 1; only for RGB images of 8 bits.
        padding: Values of the C bands beyond the border of the image.
    """

    crop: int
    scale_range: tuple[float, float] = (0.5, 2.0)
    flip: bool = True
    jitter: float = 0.0
    padding: tuple[float, ...] = PADDING_COLOUR

    def __call__(
        self, image: np.ndarray, labels: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Augment an image and its labels.

        Args:
            image: The image.
            labels: Its class indices.
            generator: Source of all random draws.
        Shapes:
            in (H, W, C) uint8, uint16 or float32 and (H, W) uint16; out the same types, (N, N, C) and (N, N), N the
            side of the crop.
        """
        size = (labels.shape[0], labels.shape[1])
        geometry = draw_geometry(size, self.crop, self.scale_range, self.flip, generator)
        image, labels = apply_geometry(image, labels, geometry, self.padding)
        return (jitter_colours(image, self.jitter, generator) if self.jitter > 0.0 else image), labels
