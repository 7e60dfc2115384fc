from __future__ import annotations

import numpy as np
import pytest

from atrous.data.convert.shapes import fill_polygon
from atrous.data.convert.tracing import TOLERANCE_PX, find_needed_outlines, find_outlines

DIAMOND = np.array([[0, 0, 1, 0, 0], [0, 1, 0, 1, 0], [1, 0, 1, 0, 1], [0, 1, 0, 1, 0], [0, 0, 1, 0, 0]], np.uint8)
"""Pixels that touch at corners only, with one of their kind in the middle."""


def test_regions_are_connected_by_their_sides_and_come_from_the_outside_in():
    ring = np.zeros((7, 7), np.uint8)
    ring[1:6, 1:6] = 5
    ring[2:5, 2:5] = 0
    ring[3, 3] = 5
    outlines = find_outlines(ring)
    assert [(outline.id, outline.has_holes, int(outline.pixels.sum())) for outline in outlines] == [
        (0, True, 24),
        (5, True, 16),
        (0, True, 8),
        (5, False, 1),
    ]
    assert [outline.id for outline in find_needed_outlines(ring, 0)] == [5, 0, 5]
    assert [outline.id for outline in find_needed_outlines(ring, None)] == [0, 5, 0, 5]
    assert len(find_outlines(DIAMOND)) == 9 + 4 + 4


def test_every_region_is_found_but_only_those_are_needed_that_differ_from_what_is_below():
    square = np.ones((3, 3), np.uint8)
    assert len(list(find_needed_outlines(square, 1))) == 0
    assert len(find_outlines(square)) == 1


@pytest.mark.parametrize("seed", range(5))
def test_the_centres_of_a_region_and_no_others_are_inside_its_edge(seed):
    for outline in find_outlines(np.random.default_rng(seed).integers(0, 3, (12, 15))):
        patch = fill_polygon(outline.trace_edge(), 12, 15)
        whole = np.zeros((12, 15), bool)
        whole[patch.top :, patch.left :][: patch.pixels.shape[0], : patch.pixels.shape[1]] = patch.pixels
        height, width = outline.filled.shape
        assert (whole[outline.top : outline.top + height, outline.left : outline.left + width] == outline.filled).all()
        assert whole.sum() == outline.filled.sum()


def measure_area(points):
    x, y = points.T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_an_outline_runs_along_the_sides_of_pixels_and_cuts_corners_alone():
    mask = np.zeros((20, 30), np.uint8)
    mask[4:14, 5:25] = 1
    (outline,) = find_needed_outlines(mask, 0)
    points = outline.trace_edge()
    assert points.min(axis=0).tolist() == [5, 4]
    assert points.max(axis=0).tolist() == [25, 14]
    assert measure_area(points) == 200 - 4 / 8


def test_an_outline_of_a_slope_has_few_points_and_the_area_of_its_pixels():
    y, x = np.mgrid[:200, :200]
    triangle, disk = x >= y, (x - 100) ** 2 + (y - 100) ** 2 < 80**2
    for mask, most in ((triangle, 8), (disk, 240)):
        (outline,) = find_needed_outlines(mask.astype(np.uint8), 0)
        points = outline.trace_edge()
        assert len(points) <= most
        assert abs(measure_area(points) / mask.sum() - 1) < 0.006
    assert TOLERANCE_PX < 0.125**0.5  # a larger one could move an outline over the centre of a pixel


def test_a_pixel_and_a_row_have_an_outline():
    mask = np.zeros((5, 9), np.uint8)
    mask[1, 1] = mask[3, 2:8] = 1
    row, pixel = find_needed_outlines(mask, 0)
    assert pixel.trace_centres().tolist() == [[1, 1]]
    assert sorted(row.trace_centres().tolist()) == [[2, 3], [7, 3]]
    assert len(pixel.trace_edge()) == 4
