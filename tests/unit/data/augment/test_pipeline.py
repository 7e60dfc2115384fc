from __future__ import annotations

import numpy as np

from atrous.core.labels import IGNORE_INDEX
from atrous.data.augment.pipeline import Augmentation


def test_same_generator_same_result_and_input_untouched():
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    labels = generator.integers(0, 3, (30, 40)).astype(np.uint16)
    copies = image.copy(), labels.copy()
    augmentation = Augmentation(crop=25, jitter=0.7)
    one = augmentation(image, labels, np.random.default_rng(5))
    other = augmentation(image, labels, np.random.default_rng(5))
    for left, right in zip(one, other, strict=True):
        np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(image, copies[0])
    np.testing.assert_array_equal(labels, copies[1])


def test_jitter_leaves_the_labels():
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    labels = generator.integers(0, 3, (30, 40)).astype(np.uint16)
    plain = Augmentation(crop=25)(image, labels, np.random.default_rng(5))
    jittered = Augmentation(crop=25, jitter=1.0)(image, labels, np.random.default_rng(5))
    np.testing.assert_array_equal(plain[1], jittered[1])
    assert not np.array_equal(plain[0], jittered[0])


def test_scale_1_without_mirroring_copies_pixels():
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    labels = generator.integers(0, 3, (30, 40)).astype(np.uint16)
    augmentation = Augmentation(crop=40, scale_range=(1.0, 1.0), flip=False)
    cropped, cropped_labels = augmentation(image, labels, np.random.default_rng(0))
    rows = (cropped_labels != IGNORE_INDEX).all(axis=1)
    np.testing.assert_array_equal(cropped[rows], image)
    np.testing.assert_array_equal(cropped_labels[rows], labels)
