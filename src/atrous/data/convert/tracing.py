"""From ids to outlines: the connected regions of a mask, in the order in which drawing them gives the mask again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

TOLERANCE_PX = 0.3
"""How far an outline may move when points are removed: by less than the distance of any centre of a pixel."""
FARTHEST_PX = 0.125**0.5 + TOLERANCE_PX
"""Largest distance of an outline from the edges of its pixels: corners are cut, which takes 0.35 pixels."""


@dataclass(frozen=True)
class Outline:
    """A connected region of one id.

    Args:
        id: The id.
        top: First row of the part of the image that holds it.
        left: First column of that part.
        pixels: (h, w) bool, its pixels in that part.
        has_holes: Whether it encloses pixels of other ids.
        filled: (h, w) bool, its pixels and those in its holes.
    """

    id: int
    top: int
    left: int
    pixels: np.ndarray
    has_holes: bool
    filled: np.ndarray

    def trace_edge(self) -> np.ndarray:
        """Return the outline through the middle of each side that a pixel of the region shares with one outside.

        It runs along straight edges and cuts corners, so that no centre of a pixel is closer than 0.35 pixels.

        Returns:
            (N, 2) float64, x and y, where a pixel covers a square between whole numbers; at least four points.
        """
        height, width = self.filled.shape
        padded = np.pad(self.filled.astype(np.uint8), 1)
        halves = np.zeros((2 * height + 1, 2 * width + 1), np.uint8)  # centres, middles of sides, and corners of pixels
        halves[1::2, 1::2] = self.filled
        halves[::2, 1::2] = padded[1:, 1:-1] | padded[:-1, 1:-1]
        halves[1::2, ::2] = padded[1:-1, 1:] | padded[1:-1, :-1]
        halves[::2, ::2] = padded[1:, 1:] + padded[1:, :-1] + padded[:-1, 1:] + padded[:-1, :-1] >= 2
        contour = _trace(halves, (2 * self.left, 2 * self.top))
        simple = cv2.approxPolyDP(contour, 2 * TOLERANCE_PX, closed=True)
        return _read_points(simple if len(simple) > 2 else contour) / 2

    def trace_centres(self) -> np.ndarray:
        """Return the outline through the centres of its outermost pixels, every one that is a corner.

        Returns:
            (N, 2) float64, x and y, where whole numbers are centres of pixels; one point or two for a single pixel or a
            straight row of them.
        """
        return _read_points(_trace(self.filled.astype(np.uint8), (self.left, self.top)))


def _trace(mask: np.ndarray, offset: tuple[int, int]) -> np.ndarray:
    (contour, *_), _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=offset)
    return contour


def _read_points(contour: np.ndarray) -> np.ndarray:
    return np.asarray(contour[:, 0], np.float64)


def find_outlines(labels: np.ndarray) -> list[Outline]:
    """Return the regions of a mask, each before those that are in its holes.

    Pixels that touch at a corner only are not connected. So regions are nested or apart, and filling one after another
    with their holes gives the mask again.

    Args:
        labels: Ids.
    Shapes:
        labels (H, W) integers.
    """
    found = [outline for number in np.unique(labels).tolist() for outline in _find_regions(labels == number, number)]
    return sorted(found, key=lambda outline: -np.count_nonzero(outline.filled))


def find_needed_outlines(labels: np.ndarray, background: int | None) -> Iterator[Outline]:
    """Yield the regions that have to be filled one after another: those that do not have their id already.

    Args:
        labels: Ids.
        background: The id of pixels that nothing is drawn over; None: every pixel is drawn.
    Shapes:
        labels (H, W) integers.
    """
    drawn = np.full(labels.shape, -1 if background is None else background, np.int32)
    for outline in find_outlines(labels):
        height, width = outline.pixels.shape
        part = drawn[outline.top : outline.top + height, outline.left : outline.left + width]
        if part[outline.pixels][0] != outline.id:
            part[outline.filled] = outline.id
            yield outline


def _find_regions(mask: np.ndarray, number: int) -> Iterator[Outline]:
    count, regions, boxes, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    for index in range(1, count):
        left, top, width, height = boxes[index, :4].tolist()
        pixels = regions[top : top + height, left : left + width] == index
        contours, _ = cv2.findContours(pixels.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        filled = np.zeros((height, width), np.uint8)
        cv2.drawContours(filled, contours, -1, 1, cv2.FILLED)
        yield Outline(number, top, left, pixels, bool((filled != pixels).any()), filled.astype(bool))
