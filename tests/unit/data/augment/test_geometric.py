from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from atrous.core.errors import DataError
from atrous.core.labels import IGNORE_INDEX
from atrous.data.augment.geometric import PADDING_COLOUR, CropGeometry, Span, apply_geometry, draw_geometry

WHOLE = Span(0, 21, 0, 21)


def crop_naively(image: np.ndarray, labels: np.ndarray, geometry: CropGeometry, padding: tuple[float, ...]):
    """Pixel by pixel: its centre in the image, bilinear there, and the label of the pixel that holds it.

    Without a rotation the window of the crop is all that is seen, and its border pixels go on beyond it.
    """
    side = geometry.crop
    out_image = np.zeros((side, side, image.shape[2]))
    out_labels = np.full((side, side), IGNORE_INDEX, np.uint16)
    ties = np.zeros((side, side), bool)
    angle = np.radians(geometry.rotation)
    (rows, columns), whole = (geometry.rows, geometry.columns), (0, 0, *labels.shape)
    window = (rows.start, columns.start, rows.start + rows.length, columns.start + columns.length)
    first_row, first_column, end_row, end_column = whole if geometry.rotation else window

    def at(row: int, column: int) -> np.ndarray:
        if geometry.rotation and not (0 <= row < labels.shape[0] and 0 <= column < labels.shape[1]):
            return np.array(padding, float)
        row, column = min(max(row, first_row), end_row - 1), min(max(column, first_column), end_column - 1)
        return image[row, column].astype(float)

    for row in range(side):
        for column in range(side):
            down, right = row - (side - 1) / 2, column - (side - 1) / 2
            crop_y = (side - 1) / 2 + right * np.sin(angle) + down * np.cos(angle)
            crop_x = (side - 1) / 2 + right * np.cos(angle) - down * np.sin(angle)
            y = rows.start + (crop_y - rows.before + 0.5) * rows.length / rows.size
            x = columns.start + (crop_x - columns.before + 0.5) * columns.length / columns.size
            ties[row, column] = min(abs(y - round(y)), abs(x - round(x))) < 2e-3
            if first_row <= y < end_row and first_column <= x < end_column:
                out_labels[row, column] = labels[int(y), int(x)]
            elif not geometry.rotation:
                out_image[row, column] = padding
                continue
            top, left = int(np.floor(y - 0.5)), int(np.floor(x - 0.5))
            low, far = y - 0.5 - top, x - 0.5 - left
            out_image[row, column] = (
                (1 - low) * ((1 - far) * at(top, left) + far * at(top, left + 1))
                + low * ((1 - far) * at(top + 1, left) + far * at(top + 1, left + 1))
            )  # fmt: skip
    out_image, out_labels, ties = (
        each[:: -1 if geometry.flip_vertical else 1, :: -1 if geometry.flip else 1]
        for each in (out_image, out_labels, ties)
    )
    return (np.rot90(each, geometry.quarter_turns) for each in (out_image, out_labels, ties))


GEOMETRIES = [
    CropGeometry(13, Span(2, 13, 0, 13), Span(3, 13, 0, 13)),
    CropGeometry(13, Span(2, 13, 0, 13), Span(3, 13, 0, 13), flip=True),
    CropGeometry(21, Span(4, 12, 0, 21), Span(1, 12, 0, 21), flip_vertical=True),
    CropGeometry(21, Span(0, 18, 5, 11), Span(0, 25, 2, 15), flip=True, flip_vertical=True),
    CropGeometry(21, Span(0, 18, 5, 11), Span(0, 25, 2, 15), quarter_turns=1),
    CropGeometry(21, Span(2, 15, 0, 21), Span(9, 15, 0, 21), flip=True, quarter_turns=3),
    CropGeometry(9, Span(0, 17, 0, 9), Span(1, 17, 0, 9), quarter_turns=2),
    CropGeometry(21, Span(2, 15, 0, 21), Span(4, 15, 0, 21), rotation=17.0),
    CropGeometry(21, Span(0, 18, 5, 11), Span(0, 25, 2, 15), flip=True, rotation=-128.5),
    CropGeometry(20, Span(2, 15, 0, 20), Span(4, 15, 0, 20), flip_vertical=True, quarter_turns=1, rotation=60.0),
]


@pytest.mark.parametrize("channels", [1, 3, 4, 6, 9])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_crop_equals_a_naive_loop(geometry, dtype, channels):
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (18, 25, channels)).astype(dtype)
    labels = generator.integers(0, 300, (18, 25)).astype(np.uint16)
    padding = tuple(range(1, channels + 1))
    wanted_image, wanted_labels, ties = crop_naively(image, labels, geometry, padding)

    cropped, cropped_labels = apply_geometry(image, labels, geometry, padding)

    assert cropped.dtype == dtype
    assert cropped.shape == (geometry.crop, geometry.crop, channels)
    assert cropped.flags.c_contiguous
    assert cropped_labels.dtype == np.uint16
    assert np.abs(cropped - wanted_image).max() <= (10 if geometry.rotation else 1)  # OpenCV rotates in steps of 1/32
    np.testing.assert_array_equal(cropped_labels[~ties], wanted_labels[~ties])


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_rotating_by_90_degrees_is_a_quarter_turn(turns):
    generator = np.random.default_rng(0)
    image, labels = generator.integers(0, 256, (40, 50, 3), dtype=np.uint8), generator.integers(0, 9, (40, 50))
    straight = CropGeometry(21, Span(6, 21, 0, 21), Span(11, 21, 0, 21))
    wanted = apply_geometry(image, labels.astype(np.uint16), replace(straight, quarter_turns=turns))
    turned = apply_geometry(image, labels.astype(np.uint16), replace(straight, rotation=90.0 * turns))
    for one, other in zip(wanted, turned, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_window_is_all_that_a_crop_needs(geometry):
    generator = np.random.default_rng(0)
    image, labels = generator.integers(0, 256, (18, 25, 3), dtype=np.uint8), generator.integers(0, 9, (18, 25))
    labels = labels.astype(np.uint16)
    rows, columns = geometry.find_window((18, 25))
    part = apply_geometry(image[rows, columns], labels[rows, columns], geometry.shift(rows.start, columns.start))
    for one, other in zip(apply_geometry(image, labels, geometry), part, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("size", [25, 33, 40, 50, 77, 80, 120])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("upright", [False, True])
def test_image_and_labels_stay_registered_within_half_a_pixel(size, flip, upright):
    """An edge through the middle of a window that becomes 64 pixels."""
    edge = size // 2 + 3
    labels = np.zeros((size, size), np.uint16)
    labels[:, edge:] = 1
    if upright:
        labels = labels.T.copy()
    image = np.repeat((labels * 200).astype(np.uint8)[..., None], 3, axis=2)
    span = Span(0, size, 0, 64)
    cropped, cropped_labels = apply_geometry(image, labels, CropGeometry(64, span, span, flip=flip))
    values, ids = (cropped[..., 0].T, cropped_labels.T) if upright else (cropped[..., 0], cropped_labels)
    assert np.abs(values.sum(axis=1) / 200.0 - ids.sum(axis=1)).max() <= 0.5 + 0.02


def test_beyond_the_border_is_padding():
    image, labels = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint16)
    span = Span(0, 4, 3, 4)
    cropped, cropped_labels = apply_geometry(image, labels, CropGeometry(10, span, span))
    assert (cropped_labels == IGNORE_INDEX).sum() == 100 - 16
    assert (cropped[cropped_labels == IGNORE_INDEX] == PADDING_COLOUR).all()
    assert (cropped[cropped_labels == 0] == 0).all()


def test_draws_cover_the_range_and_stay_inside():
    generator = np.random.default_rng(0)
    drawn = [draw_geometry((40, 90), 50, (0.5, 2.0), generator) for _ in range(2000)]
    scales = 1 / np.array([geometry.columns.step for geometry in drawn])
    assert 0.49 < scales.min() < 0.52
    assert 1.96 < scales.max() < 2.04
    counts = np.histogram(scales, bins=6, range=(0.49, 2.04))[0]
    assert np.abs(counts - 2000 / 6).max() < 80  # uniform, not log-uniform
    assert 900 < sum(geometry.flip for geometry in drawn) < 1100
    for geometry in drawn:
        for side, span in ((40, geometry.rows), (90, geometry.columns)):
            assert 0 <= span.start <= span.start + span.length <= side
            assert 0 <= span.before <= span.before + span.size <= 50
            assert span.length == side or span.size == 50  # no padding where the image goes on
    tops = [geometry.rows.start for geometry in drawn if geometry.rows.size == 50]
    assert min(tops) == 0
    assert max(tops) >= 14  # at scale 2 a window of 25 of the 40 rows


def test_draws_of_turns_are_uniform_and_bounded():
    generator = np.random.default_rng(0)
    options = {"flip_vertical": True, "quarter_turns": True, "rotation": 30.0}
    drawn = [draw_geometry((40, 90), 50, (0.5, 2.0), generator, **options) for _ in range(2000)]
    assert 900 < sum(geometry.flip_vertical for geometry in drawn) < 1100
    assert all(400 < sum(geometry.quarter_turns == turns for geometry in drawn) < 600 for turns in range(4))
    angles = np.array([geometry.rotation for geometry in drawn])
    assert np.abs(np.histogram(angles, bins=4, range=(-30, 30))[0] - 500).max() < 100


def test_switching_an_option_off_leaves_the_others():
    everything = {"flip": True, "flip_vertical": True, "quarter_turns": True, "rotation": 20.0}
    for name in everything:
        options = everything | {name: type(everything[name])()}
        for seed in range(10):
            one, other = (
                draw_geometry((40, 90), 50, (0.5, 2.0), np.random.default_rng(seed), **given)
                for given in (everything, options)
            )
            assert replace(one, **{name: options[name]}) == other


@pytest.mark.parametrize(("centre", "start"), [((0, 0), 0), ((40, 89), (27, 77)), ((20, 50), (14, 44))])
def test_a_crop_is_centred_as_far_as_the_image_reaches(centre, start):
    geometry = draw_geometry((40, 90), 26, (2.0, 2.0), np.random.default_rng(0), centre=centre)
    assert (geometry.rows.start, geometry.columns.start) == (start if isinstance(start, tuple) else (start, start))
    assert (geometry.rows.length, geometry.columns.length) == (13, 13)


@pytest.mark.parametrize(("rotation", "kind"), [(0.0, "crop"), (1.0, "rotated crop")])
def test_what_cannot_be_scaled_or_rotated_is_refused_with_its_size(rotation, kind):
    labels = np.zeros((2, 40_000), np.uint16)
    geometry = CropGeometry(4000, Span(0, 2, 0, 1), Span(0, 40_000, 0, 4000), rotation=rotation)
    with pytest.raises(DataError, match=rf"a {kind} of 4,000 pixels takes 40,000 pixels"):
        apply_geometry(np.zeros((*labels.shape, 3), np.uint8), labels, geometry)


@pytest.mark.parametrize("sides", [(32_766, 513), (32_766, 999), (1, 513), (317, 999)])
def test_labels_of_the_longest_windows_are_those_of_the_nearest_pixels(sides):
    length, size = sides
    labels = np.arange(length, dtype=np.uint16)[None]
    geometry = CropGeometry(size, Span(0, 1, 0, 1), Span(0, length, 0, size))
    _, cropped = apply_geometry(np.zeros((1, length, 3), np.uint8), labels, geometry)
    centres = (np.arange(size) + 0.5) * length / size
    assert np.abs(cropped[0] + 0.5 - centres).max() <= 0.52
