"""What happens to an image and its labels on the way into training."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atrous.data.augment.geometric import apply_geometry, draw_geometry
from atrous.data.augment.photometric import jitter_colours


@dataclass(frozen=True)
class Augmentation:
    """Random scale, crop and mirroring of image and labels together, then the image's colours.

    Args:
        crop: Side of the square crop, in pixels.
        scale_range: Range of the random scale.
        flip: Whether images are mirrored left-right at random.
        jitter: Strength of the colour changes, 0 to 1; 0 leaves colours alone.
    """

    crop: int
    scale_range: tuple[float, float] = (0.5, 2.0)
    flip: bool = True
    jitter: float = 0.0

    def __call__(
        self, image: np.ndarray, labels: np.ndarray, generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Augment a pair; all that is random comes from `generator`.

        Shapes:
            in (H, W, 3) uint8 and (H, W) uint16; out (crop, crop, 3) uint8 and (crop, crop) uint16.
        """
        size = (labels.shape[0], labels.shape[1])
        geometry = draw_geometry(size, self.crop, self.scale_range, self.flip, generator)
        image, labels = apply_geometry(image, labels, geometry)
        return (jitter_colours(image, self.jitter, generator) if self.jitter > 0.0 else image), labels
