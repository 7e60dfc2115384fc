from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from atrous.core.labels import LabelSpace
from atrous.data.facts import read_facts
from atrous.data.facts_cache import FactsCache
from atrous.data.inventory import Pair
from atrous.data.pairs import PairDataset
from atrous.data.statistics import compute_class_weights, compute_statistics


def test_counts_agree_with_a_naive_loop(tmp_path):
    generator = np.random.default_rng(0)
    masks = [generator.choice([0, 4, 9, 255], (6, 7)) for _ in range(10)]
    pairs = []
    for number, mask in enumerate(masks):
        image, path = tmp_path / f"{number}.jpg", tmp_path / f"{number}.png"
        Image.new("RGB", (7, 6)).save(image)
        Image.fromarray(mask.astype(np.uint8)).save(path)
        pairs.append(Pair(str(number), str(image), str(path)))
    dataset = PairDataset("mine train", LabelSpace(("a", "b", "c"), ids=(0, 4, 9)), tuple(pairs))

    statistics = compute_statistics(read_facts(dataset, FactsCache(tmp_path / "cache")))

    for index, number in enumerate((0, 4, 9)):
        assert statistics.pixels[index] == sum(int((mask == number).sum()) for mask in masks)
        assert statistics.images[index] == sum(bool((mask == number).any()) for mask in masks)
        assert statistics.presence[:, index].tolist() == [bool((mask == number).any()) for mask in masks]
    assert statistics.ignored_pixels == sum(int((mask == 255).sum()) for mask in masks)
    assert statistics.num_masks == 10


def test_class_weights_by_hand():
    weights = compute_class_weights(np.array([64, 16, 4, 0]))
    raw = np.array([1.0, 2.0, 4.0, 10.0])  # 1 / sqrt of the shares 64 : 16 : 4, and the cap
    np.testing.assert_allclose(weights, raw / raw.mean())
    assert np.mean(weights) == pytest.approx(1.0)
