"""Images beside their labels, for people; and the worst images of a pass over the data, kept while it runs."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from atrous.core.labels import LabelSpace
from atrous.core.records import ImageScore, Sample
from atrous.images.bands import stretch_bands
from atrous.images.encode import shrink_view
from atrous.images.palette import colour_labels
from atrous.inference.labelling.labeller import Labeller

DRAWN_SIDE_PX = 480
"""Longer side of each view of an image that is drawn."""
WORST_IMAGES = 8


class Views(NamedTuple):
    """An image and label maps of it, smaller if they are large.

    Args:
        image: (h, w, 3) uint8.
        label_maps: Class indices, (h, w) each.
        space: The classes.
    """

    image: np.ndarray
    label_maps: tuple[np.ndarray, ...]
    space: LabelSpace

    def draw(self) -> np.ndarray:
        """Return all side by side, (h, n * w, 3) uint8: the image left, then the label maps in colour."""
        return np.hstack([self.image, *(colour_labels(labels, self.space) for labels in self.label_maps)])


def shrink_views(labeller: Labeller, image: np.ndarray, label_maps: Sequence[np.ndarray]) -> Views:
    """Return views of an image and of label maps of it.

    Args:
        labeller: Its form of images, and its classes.
        image: The image.
        label_maps: Class indices.
    Shapes:
        image (H, W, C); label_maps (H, W) each
    """
    return Views(
        shrink_view(stretch_bands(image, labeller.form), DRAWN_SIDE_PX, smooth=True),
        tuple(shrink_view(labels, DRAWN_SIDE_PX, smooth=False) for labels in label_maps),
        labeller.label_space,
    )


@dataclass
class WorstImages:
    """The images with the lowest mIoU of those that were counted so far, each with its views.

    Args:
        rows: The images, the worst first.
    """

    rows: list[tuple[ImageScore, Views]] = field(default_factory=list)

    def __call__(self, labeller: Labeller, sample: Sample, labels: np.ndarray, score: ImageScore) -> None:
        """Keep an image if it is among the worst so far, with its truth and its prediction.

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
        self.rows.insert(place, (score, shrink_views(labeller, sample.image, (sample.labels, labels))))
        del self.rows[WORST_IMAGES:]
