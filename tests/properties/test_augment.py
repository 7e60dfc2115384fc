from __future__ import annotations

import math

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atrous.core.labels import IGNORE_INDEX
from atrous.data.augment.geometric import PADDING_COLOUR, apply_geometry, draw_geometry
from atrous.data.augment.pipeline import Augmentation


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    crop=st.integers(1, 70),
    scales=st.tuples(st.floats(0.2, 3.0), st.floats(0.2, 3.0)),
    jitter=st.sampled_from([0.0, 1.0]),
    rotation=st.sampled_from([0.0, 180.0]),
)
def test_no_new_id_appears_whatever_is_drawn(seed, size, crop, scales, jitter, rotation):
    """Ids far apart, so that any blending of two of them, or of one with padding, would give a third."""
    generator = np.random.default_rng(seed)
    ids = np.array([0, 7, 90, 1000, 40000], np.uint16)
    labels = generator.choice(ids[: generator.integers(1, 6)], size)
    image = generator.integers(0, 256, (*size, 3), dtype=np.uint8)

    augmented, augmented_labels = Augmentation(
        crop, (min(scales), max(scales)), True, jitter, flip_vertical=True, quarter_turns=True, rotation=rotation
    )(image, labels, np.random.default_rng(seed))

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
    long_side=st.integers(2**15 - 3, 2**15 + 40_000),
    scale=st.floats(0.3, 3.0),
    crop=st.integers(1, 40),
    upright=st.booleans(),
)
@example(seed=0, long_side=32765, scale=0.3515625, crop=19, upright=False)
def test_images_longer_than_16_bits_are_sampled_where_the_crop_is(seed, long_side, scale, crop, upright):
    generator = np.random.default_rng(seed)
    size = (long_side, 5) if upright else (5, long_side)
    labels = generator.integers(0, 60_000, size).astype(np.uint16)
    image = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
    geometry = draw_geometry(size, crop, (scale, scale), generator, flip=False)

    shown, moved = apply_geometry(image, labels, geometry)

    places = []
    for span in (geometry.rows, geometry.columns):
        place = (np.arange(crop) - span.before + 0.5) * span.length / span.size
        # A centre on the border of two pixels is in both.
        places.append([{int(at), math.ceil(at) - 1} if 0 <= at < span.length else None for at in place])
    for row, ys in enumerate(places[0]):
        for column, xs in enumerate(places[1]):
            if ys is None or xs is None:
                assert moved[row, column] == IGNORE_INDEX
                assert tuple(shown[row, column]) == PADDING_COLOUR
            else:
                starts = geometry.rows.start, geometry.columns.start
                assert moved[row, column] in {labels[starts[0] + y, starts[1] + x] for y in ys for x in xs}


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    crop=st.integers(1, 40),
    scale=st.floats(0.2, 3.0),
)
def test_the_centre_of_a_crop_is_in_it(seed, size, crop, scale):
    """Whatever is drawn: a crop that is centred on a pixel shows it, if its window is not smaller than two pixels."""
    generator = np.random.default_rng(seed)
    labels = np.zeros(size, np.uint16)
    centre = int(generator.integers(size[0])), int(generator.integers(size[1]))
    labels[centre] = 1
    geometry = draw_geometry(size, crop, (scale, scale), generator, centre=centre)
    rows, columns = geometry.find_window(size)
    assert labels[rows, columns].any()
