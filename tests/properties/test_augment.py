from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from atrous.core.labels import IGNORE_INDEX
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
