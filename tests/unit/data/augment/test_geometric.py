from __future__ import annotations

import numpy as np
import pytest

from atrous.core.labels import IGNORE_INDEX
from atrous.data.augment.geometric import PADDING_COLOUR, CropGeometry, apply_geometry, draw_geometry


def crop_naively(image: np.ndarray, labels: np.ndarray, geometry: CropGeometry):
    """Pixel by pixel: where its centre lies in the image, bilinear there, and the label of the pixel it lies in."""
    height, width = labels.shape
    out_image = np.zeros((geometry.crop, geometry.crop, 3))
    out_labels = np.full((geometry.crop, geometry.crop), IGNORE_INDEX, np.uint16)
    ties = np.zeros((geometry.crop, geometry.crop), bool)

    def at(row: int, column: int) -> np.ndarray:
        inside = 0 <= row < height and 0 <= column < width
        return image[row, column].astype(float) if inside else np.array(PADDING_COLOUR, float)

    for row in range(geometry.crop):
        for column in range(geometry.crop):
            shown = geometry.crop - 1 - column if geometry.flip else column
            y = (geometry.top + row + 0.5) / geometry.scale
            x = (geometry.left + shown + 0.5) / geometry.scale
            if 0 <= y < height and 0 <= x < width:
                out_labels[row, column] = labels[int(y), int(x)]
            ties[row, column] = min(abs(y - round(y)), abs(x - round(x))) < 2e-3
            top, left = int(np.floor(y - 0.5)), int(np.floor(x - 0.5))
            down, right = y - 0.5 - top, x - 0.5 - left
            out_image[row, column] = (
                (1 - down) * ((1 - right) * at(top, left) + right * at(top, left + 1))
                + down * ((1 - right) * at(top + 1, left) + right * at(top + 1, left + 1))
            )  # fmt: skip
    return out_image, out_labels, ties


@pytest.mark.parametrize(
    "geometry",
    [
        CropGeometry(13, 1.0, 2, 3, False),
        CropGeometry(13, 1.0, 2, 3, True),
        CropGeometry(21, 1.7, 4, -3, False),
        CropGeometry(21, 0.6, -5, -2, True),
        CropGeometry(21, 1.37, 9, 11, True),
        CropGeometry(9, 0.53, 0, 1, False),
    ],
)
def test_crop_equals_a_naive_loop(geometry):
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (18, 25, 3), dtype=np.uint8)
    labels = generator.integers(0, 300, (18, 25)).astype(np.uint16)
    wanted_image, wanted_labels, ties = crop_naively(image, labels, geometry)

    cropped, cropped_labels = apply_geometry(image, labels, geometry)

    assert cropped.dtype == np.uint8
    assert cropped_labels.dtype == np.uint16
    assert np.abs(cropped - wanted_image).max() <= 10  # OpenCV may weigh in steps of 1/32 of a pixel
    np.testing.assert_array_equal(cropped_labels[~ties], wanted_labels[~ties])


@pytest.mark.parametrize("scale", [0.5, 0.61, 0.75, 1.0, 1.33, 1.9, 2.0])
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("upright", [False, True])
def test_image_and_labels_stay_registered_within_half_a_pixel(scale, flip, upright):
    size, edge, crop = 80, 37, 64
    labels = np.zeros((size, size), np.uint16)
    labels[:, edge:] = 1
    if upright:
        labels = labels.T.copy()
    image = np.repeat((labels * 200).astype(np.uint8)[..., None], 3, axis=2)
    room = round(size * scale) - crop
    start = min(max(round(edge * scale) - crop // 2, min(room, 0)), max(room, 0))
    geometry = CropGeometry(crop, scale, start, start, flip)

    cropped, cropped_labels = apply_geometry(image, labels, geometry)

    inside = cropped_labels != IGNORE_INDEX
    lines = [
        (p[i] / 200.0, t[i]) for p, t, i in zip(cropped[..., 0], cropped_labels, inside, strict=True) if i.sum() > 20
    ]
    if upright:
        lines = [
            (p[i] / 200.0, t[i])
            for p, t, i in zip(cropped[..., 0].T, cropped_labels.T, inside.T, strict=True)
            if i.sum() > 20
        ]
    for values, ids in lines:
        assert {0, 1} == set(ids.tolist())
        # the bright side's extent in pixels: soft for the image, whole for the labels; the border is not counted
        assert abs(values[1:-1].sum() - ids[1:-1].sum()) <= 0.5 + 0.02


def test_beyond_the_border_is_padding():
    image, labels = np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint16)
    cropped, cropped_labels = apply_geometry(image, labels, CropGeometry(10, 1.0, -3, -3, False))
    assert (cropped_labels == IGNORE_INDEX).sum() == 100 - 16
    assert (cropped[cropped_labels == IGNORE_INDEX] == PADDING_COLOUR).all()
    assert (cropped[cropped_labels == 0] == 0).all()


def test_draws_cover_the_range_and_stay_inside():
    generator = np.random.default_rng(0)
    drawn = [draw_geometry((40, 90), 50, (0.5, 2.0), True, generator) for _ in range(2000)]
    scales = np.array([geometry.scale for geometry in drawn])
    assert scales.min() >= 0.5
    assert scales.max() <= 2.0
    counts = np.histogram(scales, bins=6, range=(0.5, 2.0))[0]
    assert np.abs(counts - 2000 / 6).max() < 80  # uniform, not log-uniform
    assert 900 < sum(geometry.flip for geometry in drawn) < 1100
    for geometry in drawn:
        for side, start in ((40, geometry.top), (90, geometry.left)):
            room = round(side * geometry.scale) - 50
            assert min(room, 0) <= start <= max(room, 0)


def test_switching_mirroring_off_leaves_scale_and_place():
    on = [draw_geometry((40, 90), 50, (0.5, 2.0), True, np.random.default_rng(seed)) for seed in range(20)]
    off = [draw_geometry((40, 90), 50, (0.5, 2.0), False, np.random.default_rng(seed)) for seed in range(20)]
    assert [(g.scale, g.top, g.left) for g in on] == [(g.scale, g.top, g.left) for g in off]
    assert not any(geometry.flip for geometry in off)
