from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from atrous.core.labels import IGNORE_INDEX, LabelSpace
from atrous.data.facts_cache import FactsCache, count_ids
from atrous.data.inventory import Pair
from atrous.data.mask_reader import MaskReader
from atrous.data.pairs import PairDataset

RANGES = {"uint8": (0, 256), "uint16": (0, 65536), "int32": (-(2**31), 2**31)}


def draw(seed: int) -> tuple[np.ndarray, dict[int, int], tuple[int, ...], LabelSpace]:
    """A mask of random numbers, where some are mapped, some ignored and the rest classes."""
    generator = np.random.default_rng(seed)
    dtype = ["uint8", "uint16", "int32"][seed % 3]
    numbers = np.unique(generator.integers(*RANGES[dtype], 9))
    mask = generator.choice(numbers, (11, 7)).astype(dtype)
    generator.shuffle(numbers)
    mapped, ignored, plain = numbers[:3].tolist(), numbers[3:5].tolist(), numbers[5:].tolist()
    mapped += [number for number in plain if not 0 <= number < IGNORE_INDEX]
    ids = sorted({0, 1, *(number for number in plain if 0 <= number < IGNORE_INDEX)} - {*ignored})
    label_map = {number: int(generator.choice(ids)) for number in mapped}
    space = LabelSpace(tuple(f"class {number}" for number in ids), tuple(ids), ignored_ids=tuple(ignored))
    return mask, label_map, tuple(ignored), space


@pytest.mark.parametrize("seed", range(30))
def test_numbers_become_classes_as_one_by_one(seed, tmp_path):
    mask, label_map, ignored, space = draw(seed)
    expected = np.empty(mask.shape, np.int64)
    for place, number in np.ndenumerate(mask):
        expected[place] = IGNORE_INDEX if number in ignored else space.ids.index(label_map.get(number, number))
    path = tmp_path / "m.tif"
    Image.fromarray(mask).save(path)
    image = tmp_path / "i.png"
    Image.new("RGB", mask.shape[::-1]).save(image)
    reader = MaskReader(label_map)
    dataset = PairDataset("mine", space, (Pair("a", image, path),), reader)

    np.testing.assert_array_equal(dataset.get(0).labels, expected)
    np.testing.assert_array_equal(space.encode(dataset.mask(0)), expected)
    assert reader.read_facts(path, FactsCache(tmp_path)).counts == count_ids(dataset.mask(0))[1]


def test_facts_are_kept_by_file_and_read_under_every_map(tmp_path):
    path = tmp_path / "m.png"
    Image.fromarray(np.array([[0, 1, 255]], np.uint8)).save(path)
    cache = FactsCache(tmp_path / "cache")
    assert MaskReader().read_facts(path, cache).counts == {0: 1, 1: 1, 255: 1}
    assert MaskReader({255: 1}).read_facts(path, cache).counts == {0: 1, 1: 2}
