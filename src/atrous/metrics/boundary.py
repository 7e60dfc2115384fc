"""Scores near boundaries and by the size of what is labelled: one pass over the labels of an image.

Both count pixels in the form of `compute_tally`, so that they are summed and drawn like other scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from atrous.core.labels import IGNORE_INDEX

SIZE_LIMITS_PX = (16, 64)
"""Sides of the squares whose areas divide connected parts of the truth into small, medium and large ones."""


@dataclass(frozen=True)
class Band:
    """How wide a band along boundaries is.

    Args:
        pixels: Width in pixels; 0 where it is a share.
        share: Width as a share of the image's diagonal.
    """

    pixels: int = 0
    share: float = 0.0

    def describe(self) -> str:
        """Write the width for tables."""
        return f"{self.pixels} px" if self.pixels else f"{self.share * 100:g} % of the diagonal"

    def find_width(self, height: int, width: int) -> int:
        """Return the width in pixels in an image, at least 1.

        Args:
            height: Of the image.
            width: Likewise.
        """
        return self.pixels or max(round(self.share * float(np.hypot(height, width))), 1)


BANDS = (Band(share=0.02), Band(pixels=5))
"""Bands that are scored: the published width, and a fixed one, which does not grow with the image."""


def count_boundaries(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """Count the pixels of boundary IoU and of trimap IoU for each of `BANDS`.

    Boundary IoU compares, class by class, the pixels of the true mask within the band's width of its contour with
    those of the predicted mask; the image's border is a contour. A pixel of a class is in this band if and only if the
    square around it holds another class or reaches beyond the image: one maximum and one minimum over the labels find
    the bands of all classes. Trimap IoU is the IoU of the pixels within the width of a boundary of the truth.

    Ignored pixels are of no class, in truth and prediction: their border is a contour of both.

    Args:
        truth: Class indices, `IGNORE_INDEX` where ignored.
        prediction: Class indices.
        num_classes: Number of classes.
    Shapes:
        in (H, W) uint16; out (N, 2, 3, K) int64: by band, boundary and trimap, tallies.
    Source: Cheng et al. 2021 (arXiv 2103.16562), section 4, and its code: erosion by 3x3, repeated, in a padded mask;
        Krähenbühl and Koltun 2011 (arXiv 1210.5644), section 5.1, for the trimap.
    """
    none = np.uint16(num_classes)
    truth = np.minimum(truth, none)
    given = np.where(truth == none, none, prediction)
    if num_classes <= np.iinfo(np.uint8).max:  # half the memory, and twice as fast
        truth, given = truth.astype(np.uint8), given.astype(np.uint8)
    near_truth, near_given = (np.zeros(truth.shape, dtype=np.uint8) for _ in range(2))  # a bit for each band and score
    for number, band in enumerate(BANDS):
        width = band.find_width(*truth.shape)
        outer = np.ones(truth.shape, dtype=bool)
        outer[width:-width, width:-width] = False
        trimap = _differs_around(truth, width)
        for near, boundary in ((near_truth, trimap), (near_given, _differs_around(given, width))):
            near |= (boundary | outer).view(np.uint8) << 2 * number
            near |= trimap.view(np.uint8) << 2 * number + 1
    equal = truth == given
    pairs = (truth[equal], (near_truth & near_given)[equal]), (truth, near_truth), (given, near_given)
    counts = np.stack([_count_classes(labels, near, num_classes) for labels, near in pairs], axis=1)
    return counts.reshape(len(BANDS), 2, 3, num_classes)


def _differs_around(labels: np.ndarray, width: int) -> np.ndarray:
    """Whether the square of `width` pixels to each side of a pixel holds another label; nothing is outside."""
    square = np.ones((2 * width + 1, 2 * width + 1), dtype=np.uint8)
    differs: np.ndarray = cv2.dilate(labels, square) != cv2.erode(labels, square)
    return differs


def _count_classes(labels: np.ndarray, near: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the pixels of each class with each bit, (2 * len(BANDS), K)."""
    num_bits, size = 2 * len(BANDS), num_classes + 1  # of the labels: one more stands for no class
    both = near.astype(np.intp)
    both *= size
    both += labels
    counts = np.bincount(both.reshape(-1), minlength=size << num_bits).reshape(-1, size)
    holds = np.arange(1 << num_bits) >> np.arange(num_bits)[:, None] & 1  # whether a number has a bit
    found: np.ndarray = holds @ counts[:, :num_classes]
    return found


def count_parts(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Count connected parts of the truth by their size, with their pixels and those labelled correctly.

    A part is what is connected of one class, diagonally too. Its size is its number of pixels.

    Args:
        truth: Class indices, `IGNORE_INDEX` where ignored.
        prediction: Class indices.
    Shapes:
        in (H, W) uint16; out (S, 3) int64: from small to large, parts, pixels, correct pixels.
    """
    sizes, correct = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for number in np.flatnonzero(np.bincount(truth.reshape(-1), minlength=IGNORE_INDEX + 1)[:IGNORE_INDEX]).tolist():
        mask = (truth == number).view(np.uint8)
        left, top, width, height = cv2.boundingRect(mask)
        box = slice(top, top + height), slice(left, left + width)
        num_parts, parts, areas, _ = cv2.connectedComponentsWithStats(mask[box], connectivity=8, ltype=cv2.CV_32S)
        sizes.append(areas[1:, cv2.CC_STAT_AREA])
        correct.append(np.bincount(parts[prediction[box] == number], minlength=num_parts)[1:])
    pixels, hits = np.concatenate(sizes), np.concatenate(correct)
    size = np.searchsorted(np.square(SIZE_LIMITS_PX), pixels, side="right")
    found = np.zeros((len(SIZE_LIMITS_PX) + 1, 3), dtype=np.int64)
    for column, values in enumerate((np.ones_like(pixels), pixels, hits)):
        found[:, column] = np.bincount(size, weights=values, minlength=len(found))
    return found
