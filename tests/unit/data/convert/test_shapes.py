from __future__ import annotations

import numpy as np
import pytest

from atrous.data.convert.contracts import AnnotationError, Patch
from atrous.data.convert.shapes import draw_shape, fill_ellipse, fill_polygon, fill_runs, join_patches, read_points


def place(patch: Patch, height: int, width: int) -> np.ndarray:
    whole = np.zeros((height, width), bool)
    whole[patch.top : patch.top + patch.pixels.shape[0], patch.left : patch.left + patch.pixels.shape[1]] = patch.pixels
    return whole


def fill_naively(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Count for each centre the edges to its left."""
    y, x = np.mgrid[:height, :width] + 0.5
    inside = np.zeros((height, width), bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y0 != y1:
            inside ^= ((y0 <= y) != (y1 <= y)) & (x >= x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


@pytest.mark.parametrize("seed", range(30))
def test_a_polygon_has_the_pixels_whose_centres_are_inside(seed):
    generator = np.random.default_rng(seed)
    height, width, count = generator.integers((5, 5, 3), (80, 80, 30))
    points = generator.uniform(-0.3, 1.3, (count, 2)) * (width, height)
    if seed % 3 == 0:
        points = np.rint(points)
    assert (place(fill_polygon(points, height, width), height, width) == fill_naively(points, height, width)).all()


def test_polygons_that_share_an_edge_share_no_pixel():
    left, right = [(0, 0), (3.5, 0), (3.5, 9), (0, 9)], [(3.5, 0), (9, 0), (9, 9), (3.5, 9)]
    parts = [place(fill_polygon(np.array(points, float), 9, 9), 9, 9) for points in (left, right)]
    assert (parts[0] ^ parts[1]).all()


def test_a_polygon_with_many_crossings_is_filled_in_parts(monkeypatch):
    points = np.random.default_rng(0).uniform(0, 60, (50, 2))
    monkeypatch.setattr("atrous.data.convert.shapes.CROSSINGS_AT_ONCE", 7)
    assert (place(fill_polygon(points, 60, 60), 60, 60) == fill_naively(points, 60, 60)).all()


def test_a_polygon_outside_the_image_or_without_area_has_no_pixel():
    for points in ([(20, 20), (30, 20), (30, 30)], [(1, 1), (5, 5), (1, 1)], [(-9, -9), (-1, -9), (-5, -1)]):
        assert not fill_polygon(np.array(points, float), 10, 10).pixels.any()


def test_polygons_agree_with_coco_but_for_pixels_at_their_edges():
    coco = pytest.importorskip("pycocotools.mask")
    generator = np.random.default_rng(0)
    for _ in range(30):
        angles, radii = np.sort(generator.uniform(0, 2 * np.pi, 20)), generator.uniform(40, 90, 20)
        points = np.stack([100 + radii * np.cos(angles), 100 + radii * np.sin(angles)], axis=1)
        mine = place(fill_polygon(points, 200, 200), 200, 200)
        theirs = coco.decode(coco.merge(coco.frPyObjects([points.ravel().tolist()], 200, 200))).astype(bool)
        assert (mine & theirs).sum() / (mine | theirs).sum() > 0.99


def test_an_ellipse_has_the_pixels_whose_centres_are_inside():
    y, x = np.mgrid[:40, :50] + 0.5
    turned = place(fill_ellipse((20.0, 15.0), (12.0, 5.0), 90.0, 40, 50), 40, 50)
    assert (turned == (((x - 20) / 5) ** 2 + ((y - 15) / 12) ** 2 <= 1)).all()
    with pytest.raises(AnnotationError):
        fill_ellipse((20.0, 15.0), (0.0, 5.0), 0.0, 40, 50)


@pytest.mark.parametrize("by_column", [True, False])
def test_runs_are_zeros_and_ones_in_turn(by_column):
    mask = np.random.default_rng(0).random((7, 5)) < 0.5
    flat = (mask.T if by_column else mask).ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [not flat[-1]]])))
    assert (fill_runs(np.diff(edges, prepend=0).tolist(), 7, 5, by_column=by_column) == mask).all()


@pytest.mark.parametrize("counts", [[34], [36], [40, -5], [10**30], [1.0, 34], [None], ["35"], [True, 34]])
def test_runs_that_do_not_fill_the_image_are_refused(counts):
    with pytest.raises(AnnotationError, match="7x5"):
        fill_runs(counts, 7, 5, by_column=True)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "1,2,3,4,5,6",
        {},
        [[1, 2], [3]],
        [[1, 2, 3]] * 3,
        [[1, None]] * 3,
        [["a", "b"]] * 3,
        [[float("nan"), 1]] * 3,
        [[1, float("inf")]] * 3,
        [[1e300, 1]] * 3,
        [[10**400, 1]] * 3,
        [1, 2, 3],
        [[1, 2], [3, 4]],
        [],
        [[[1, 2]]] * 3,
    ],
)
def test_points_that_are_none_are_refused(value):
    with pytest.raises(AnnotationError):
        read_points(value, 3)


def test_points_may_be_flat():
    assert read_points([1, 2, 3, 4, 5, 6], 3).tolist() == read_points([[1, 2], [3, 4], [5, 6]], 3).tolist()


def test_labelme_counts_coordinates_as_centres_and_draws_outlines():
    box = place(draw_shape("rectangle", np.array([[6.0, 5.0], [2.0, 1.0]]), 10, 9, 9), 9, 9)
    assert box[1:6, 2:7].all()
    assert box.sum() == 25
    polygon = place(draw_shape("polygon", np.array([[2.0, 1.0], [6, 1], [6, 5], [2, 5]]), 10, 9, 9), 9, 9)
    assert (polygon == box).all()
    line = place(draw_shape("line", np.array([[0.0, 4.0], [8.0, 4.0]]), 3, 9, 9), 9, 9)
    assert line.sum(axis=1).tolist() == [0, 0, 0, 9, 9, 9, 0, 0, 0]
    circle = place(draw_shape("circle", np.array([[4.0, 4.0], [4.0, 7.0]]), 10, 9, 9), 9, 9)
    assert (circle.any(axis=1) == [False, *[True] * 7, False]).all()


@pytest.mark.parametrize("kind", ["polygon", "rectangle", "circle", "line"])
def test_a_part_of_an_image_is_drawn_as_in_the_whole(kind):
    """Only the part that a shape needs is drawn."""
    points = np.random.default_rng(1).uniform(60, 90, (2 if kind in ("rectangle", "circle") else 5, 2))
    whole = place(draw_shape(kind, points - 50, 4, 200, 200), 200, 200)
    assert (place(draw_shape(kind, points + 50, 4, 300, 300), 300, 300)[100:, 100:] == whole).all()


def test_patches_are_joined_where_they_are():
    joined = join_patches([Patch(1, 2, np.ones((2, 2), bool)), Patch(4, 0, np.ones((1, 1), bool))])
    whole = place(joined, 6, 6)
    assert np.argwhere(whole).tolist() == [[1, 2], [1, 3], [2, 2], [2, 3], [4, 0]]
