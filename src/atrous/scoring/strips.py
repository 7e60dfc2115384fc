"""Images beside their labels, for people; and the worst images of a pass over the data, kept while it runs."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from atrous.core.records import ImageScore, Sample
from atrous.images.bands import stretch_bands
from atrous.images.encode import shrink_view
from atrous.images.palette import colour_labels
from atrous.inference.labelling.labeller import Labeller

DRAWN_SIDE_PX = 480
"""Longer side of each view of an image that is drawn."""
WORST_IMAGES = 8


def draw_strip(labeller: Labeller, image: np.ndarray, label_maps: Sequence[np.ndarray]) -> np.ndarray:
    """Draw an image and label maps of it side by side, smaller if they are large.

    Args:
        labeller: Its form of images, and its classes.
        image: The image.
        label_maps: Class indices, from left to right.
    Shapes:
        image (H, W, C); label_maps (H, W) each; out (h, w, 3) uint8
    """
    views = [shrink_view(stretch_bands(image, labeller.form), DRAWN_SIDE_PX, smooth=True)]
    for labels in label_maps:
        views.append(shrink_view(colour_labels(labels, labeller.label_space), DRAWN_SIDE_PX, smooth=False))
    return np.hstack(views)


@dataclass
class WorstImages:
    """The images with the lowest mIoU of those that were counted so far, each with its strip.

    Args:
        rows: The images, the worst first.
    """

    rows: list[tuple[ImageScore, np.ndarray]] = field(default_factory=list)

    def __call__(self, labeller: Labeller, sample: Sample, labels: np.ndarray, score: ImageScore) -> None:
        """Draw an image if it is among the worst so far: image, truth, prediction.

        Args:
            labeller: What labelled it.
            sample: The image and its truth.
            labels: Class indices of the prediction.
            score: Its own score; an image without a valid pixel is skipped.
        Shapes:
            labels (H, W) integers
        """
        mious = [row.miou for row, _ in self.rows if row.miou is not None]
        if score.miou is None or (len(mious) == WORST_IMAGES and score.miou >= mious[-1]):
            return
        place = bisect.bisect_right(mious, score.miou)
        self.rows.insert(place, (score, draw_strip(labeller, sample.image, (sample.labels, labels))))
        del self.rows[WORST_IMAGES:]
