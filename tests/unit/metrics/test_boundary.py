from __future__ import annotations

import cv2
import numpy as np
import pytest
from scipy import ndimage

from atrous.core.labels import IGNORE_INDEX
from atrous.metrics.boundary import BANDS, Band, count_boundaries, count_parts
from atrous.metrics.confusion import ConfusionMatrix, compute_tally


def draw_blobs(seed: int, height: int, width: int, num_classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Labels in blobs with ignored ones, and a prediction that is shifted and noisy."""
    generator = np.random.default_rng(seed)
    noise = np.stack(
        [ndimage.gaussian_filter(generator.normal(size=(height, width)), 4) for _ in range(num_classes + 1)]
    )
    labels = noise.argmax(axis=0).astype(np.uint16)
    truth = np.where(labels == num_classes, IGNORE_INDEX, labels).astype(np.uint16)
    given = np.roll(np.minimum(labels, num_classes - 1), (2, 3), (0, 1))
    speckle = generator.random(given.shape) < 0.02
    given[speckle] = generator.integers(0, num_classes, int(speckle.sum()))
    return truth, given


def mask_to_boundary(mask: np.ndarray, width: int) -> np.ndarray:
    """The published code: erosion by 3x3, repeated, of a mask padded by zeros, taken off the mask."""
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)[1:-1, 1:-1]
    return mask & ~eroded.astype(bool)


@pytest.mark.parametrize(("seed", "height", "width"), [(0, 61, 83), (1, 120, 90), (2, 9, 200), (3, 1, 1), (4, 40, 40)])
def test_boundary_counts_are_those_of_the_published_code_and_of_scipy(seed: int, height: int, width: int) -> None:
    truth, given = draw_blobs(seed, height, width)
    found = count_boundaries(truth, given, 5)
    valid = truth != IGNORE_INDEX
    for number, band in enumerate(BANDS):
        pixels = band.find_width(height, width)
        square = np.ones((2 * pixels + 1,) * 2, bool)
        for index in range(5):
            masks = [(labels == index) & valid for labels in (truth, given)]
            true, guess = (mask_to_boundary(mask, pixels) for mask in masks)
            assert found[number, 0, :, index].tolist() == [(true & guess).sum(), true.sum(), guess.sum()]
            again = [mask & ~ndimage.binary_erosion(mask, square, border_value=0) for mask in masks]
            np.testing.assert_array_equal(again, [true, guess])


def test_trimap_counts_are_those_of_the_pixels_near_a_boundary_of_the_truth() -> None:
    truth, given = draw_blobs(5, 70, 90)
    found = count_boundaries(truth, given, 5)
    for number, band in enumerate(BANDS):
        pixels = band.find_width(70, 90)
        near = np.zeros(truth.shape, bool)
        for index in np.unique(truth):
            mask = truth == index
            reach = ndimage.distance_transform_cdt(mask, "chessboard")  # distance to the nearest other label
            near |= mask & (reach <= pixels) & (reach > 0)
        matrix = ConfusionMatrix(5)
        matrix.update(np.where(near, truth, IGNORE_INDEX), given)
        np.testing.assert_array_equal(found[number, 1], compute_tally(matrix.counts))


def test_hand_made_squares_have_the_boundary_iou_that_is_computed_by_hand() -> None:
    truth = np.zeros((100, 100), np.uint16)
    truth[20:60, 20:60] = 1  # 40 x 40: its band of 5 pixels has 1600 - 30 * 30 = 700
    given = np.zeros_like(truth)
    given[21:61, 20:60] = 1  # one row lower
    hits, true, guess = count_boundaries(truth, given, 2)[1, 0, :, 1]
    assert (true, guess) == (700, 700)
    # Rows in both are 21 to 59, 39 of them: 5 columns on each side, and 4 rows of 30 at top and bottom.
    assert hits == 39 * 10 + 2 * 4 * 30
    same = count_boundaries(truth, truth, 2)[1, 0]
    assert same[0].tolist() == same[1].tolist() == same[2].tolist()


def test_two_classes_do_not_make_a_boundary_of_a_third_between_them() -> None:
    truth = np.full((40, 40), 4, np.uint16)
    truth[:, 20:] = 2  # eroding a map of labels would yield class 3
    assert count_boundaries(truth, truth, 5)[:, :, :, 3].sum() == 0


def test_a_share_of_the_diagonal_is_rounded_and_at_least_one_pixel() -> None:
    assert [Band(share=0.02).find_width(*size) for size in ((360, 480), (3, 4), (1024, 2048))] == [12, 1, 46]
    assert Band(pixels=5).find_width(3, 4) == 5
    assert [band.describe() for band in BANDS] == ["2 % of the diagonal", "5 px"]


def test_parts_are_those_of_scipy_by_size() -> None:
    truth, given = draw_blobs(6, 150, 170)
    truth[100:103, 100:102] = 4 if truth[101, 101] != 4 else 3  # a small part
    expected = np.zeros((3, 3), int)
    for index in range(5):
        parts, count = ndimage.label(truth == index, np.ones((3, 3)))
        for part in range(1, count + 1):
            inside = parts == part
            size = 0 if inside.sum() < 256 else 1 if inside.sum() < 4096 else 2
            expected[size] += [1, inside.sum(), (given[inside] == index).sum()]
    found = count_parts(truth, given)
    np.testing.assert_array_equal(found, expected)
    assert found[:2, 0].all()
    assert found[:, 1].sum() == (truth != IGNORE_INDEX).sum()
    assert count_parts(np.full((4, 4), IGNORE_INDEX, np.uint16), np.zeros((4, 4), np.uint16)).sum() == 0


@pytest.mark.parametrize(("side", "size"), [(15, 0), (16, 1), (63, 1), (64, 2)])
def test_a_square_is_in_the_group_of_its_side(side: int, size: int) -> None:
    truth = np.full((80, 80), IGNORE_INDEX, np.uint16)
    truth[:side, :side] = 1
    assert count_parts(truth, np.ones_like(truth))[size].tolist() == [1, side**2, side**2]
