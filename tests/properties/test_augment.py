from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.core.errors import DataError
from atrous.core.labels import IGNORE_INDEX
from atrous.data.augment.geometric import MAX_SIDE_PX, PADDING_COLOUR, CropGeometry, apply_geometry, draw_geometry
from atrous.data.augment.pipeline import Augmentation


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    crop=st.integers(1, 70),
    scales=st.tuples(st.floats(0.2, 3.0), st.floats(0.2, 3.0)),
    jitter=st.sampled_from([0.0, 1.0]),
)
def test_no_new_id_appears_whatever_is_drawn(seed, size, crop, scales, jitter):
    """Ids far apart, so that any blending of two of them, or of one with padding, would give a third."""
    generator = np.random.default_rng(seed)
    ids = np.array([0, 7, 90, 1000, 40000], np.uint16)
    labels = generator.choice(ids[: generator.integers(1, 6)], size)
    image = generator.integers(0, 256, (*size, 3), dtype=np.uint8)

    augmented, augmented_labels = Augmentation(crop, (min(scales), max(scales)), True, jitter)(
        image, labels, np.random.default_rng(seed)
    )

    assert augmented.shape == (crop, crop, 3)
    assert augmented.dtype == np.uint8
    assert augmented_labels.shape == (crop, crop)
    assert augmented_labels.dtype == np.uint16
    assert set(np.unique(augmented_labels).tolist()) <= {*np.unique(labels).tolist(), IGNORE_INDEX}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), size=st.tuples(st.integers(20, 60), st.integers(20, 60)))
def test_labels_lie_where_the_image_shows_them(seed, size):
    """An image painted with its labels still shows them after augmentation, up to the soft pixels of an edge."""
    generator = np.random.default_rng(seed)
    labels = np.zeros(size, np.uint16)
    labels[generator.integers(5, 15) :, generator.integers(5, 15) :] = 1
    image = np.repeat((labels * 255).astype(np.uint8)[..., None], 3, axis=2)
    shown, moved = Augmentation(crop=40)(image, labels, np.random.default_rng(seed))
    inside = moved != IGNORE_INDEX
    # an edge pixel may be up to half way to the other side; beyond it is a shift of more than half a pixel
    assert (shown[..., 0][inside & (moved == 1)] >= 255 / 2 - 72).all()
    assert (shown[..., 0][inside & (moved == 0)] <= 255 / 2 + 8).all()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    long_side=st.integers(MAX_SIDE_PX - 3, MAX_SIDE_PX + 40_000),
    scale=st.floats(0.3, 3.0),
    crop=st.integers(1, 40),
    flip=st.booleans(),
    upright=st.booleans(),
)
def test_images_longer_than_16_bits_are_sampled_where_the_crop_lies(seed, long_side, scale, crop, flip, upright):
    generator = np.random.default_rng(seed)
    size = (long_side, 5) if upright else (5, long_side)
    labels = generator.integers(0, 60_000, size).astype(np.uint16)
    image = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
    geometry = draw_geometry(size, crop, (scale, scale), flip, generator)

    shown, moved = apply_geometry(image, labels, geometry)

    places = [
        (start + np.arange(crop) + 0.5) / geometry.scale - 0.5 for start in (geometry.top, geometry.left)
    ]  # of the centres of the crop's pixels
    if geometry.flip:
        places[1] = places[1][::-1]
    padded = np.full((size[0] + 2, size[1] + 2, 3), PADDING_COLOUR, float)
    padded[1:-1, 1:-1] = image
    wanted = np.zeros((crop, crop, 3))
    for row, y in enumerate(places[0]):
        for column, x in enumerate(places[1]):
            top, left = int(np.floor(y)), int(np.floor(x))
            rows, columns = (np.clip([at, at + 1], -1, side) + 1 for at, side in zip((top, left), size, strict=True))
            weights = np.outer([top + 1 - y, y - top], [left + 1 - x, x - left])
            wanted[row, column] = (padded[np.ix_(rows, columns)] * weights[..., None]).sum(axis=(0, 1))
            ties = min(abs(y % 1 - 0.5), abs(x % 1 - 0.5)) < 0.02
            if not ties:
                nearest_row, nearest_column = round(y), round(x)
                inside = 0 <= nearest_row < size[0] and 0 <= nearest_column < size[1]
                assert moved[row, column] == (labels[nearest_row, nearest_column] if inside else IGNORE_INDEX)
    assert np.abs(shown - wanted).max(initial=0) <= 10  # OpenCV's weights have 5 bits


def test_what_cannot_be_warped_is_refused_with_its_size():
    labels = np.zeros((2, 40_000), np.uint16)
    geometry = CropGeometry(crop=4000, scale=0.1, top=0, left=0, flip=False)
    with pytest.raises(DataError, match=r"a crop of 4,000 pixels at scale 0\.1 takes 39,996 pixels"):
        apply_geometry(np.zeros((*labels.shape, 3), np.uint8), labels, geometry)
