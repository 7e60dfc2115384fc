from __future__ import annotations

import numpy as np
import pytest

from atrous.core.labels import LabelSpace
from atrous.core.records import Sample
from atrous.data.augment.pipeline import Augmentation
from atrous.data.cached import SampleCache
from atrous.data.sampling import Stream

BYTES = 20 * 30 * (3 + 2)


class Counting:
    """Four images of one size, which counts how often each is read."""

    name, label_space = "counting", LabelSpace(("a", "b"))

    def __init__(self) -> None:
        self.reads = [0] * 4

    def __len__(self) -> int:
        return 4

    def key(self, index: int) -> str:
        return str(index)

    def get(self, index: int) -> Sample:
        self.reads[index] += 1
        generator = np.random.default_rng(index)
        image = generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        return Sample(self.key(index), image, generator.integers(0, 2, (20, 30)).astype(np.uint16))


@pytest.mark.parametrize(("budget", "reads"), [(0, [3, 3, 3, 3]), (2 * BYTES + 1, [1, 1, 3, 3]), (4 * BYTES, [1] * 4)])
def test_samples_are_read_once_as_far_as_they_fit(budget, reads):
    dataset = Counting()
    cache = SampleCache(dataset, budget)
    for _ in range(3):
        for index in range(4):
            np.testing.assert_array_equal(cache.read(index).image, Counting().get(index).image)
    assert dataset.reads == reads


def test_a_stream_with_a_cache_gives_the_same_samples():
    augmentation = Augmentation(crop=17, jitter=0.5)
    plain = Stream(Counting(), augmentation, 3)
    cached = Stream(Counting(), augmentation, 3, cache_bytes=4 * BYTES)
    for place in range(12):
        one, other = plain.sample(place), cached.sample(place)
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.labels, other.labels)
    assert max(cached.dataset.reads) == 1
