from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from atrous.core.errors import DataError
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
    dataset = PairDataset("mine", space, (Pair("a", str(image), str(path)),), reader)

    np.testing.assert_array_equal(dataset.get(0).labels, expected)
    np.testing.assert_array_equal(space.encode(dataset.mask(0)), expected)
    assert reader.read_facts(path, FactsCache(tmp_path)).counts == count_ids(dataset.mask(0))[1]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_become_classes_as_one_by_one(seed, mode, tmp_path):
    generator = np.random.default_rng(seed)
    colours = np.unique(generator.integers(0, 256, (generator.integers(1, 9), 3), dtype=np.uint8), axis=0)
    ids = [int(number) for number in generator.permutation(300)[: len(colours)]]
    table = {tuple(colour): number for colour, number in zip(colours.tolist(), ids, strict=True)}
    drawn = generator.integers(0, len(colours), (9, 13))
    image = Image.fromarray(colours[drawn])
    if mode == "P":  # the indices are others than those of the table
        order = generator.permutation(256)[: len(colours)]
        image = Image.fromarray(order[drawn].astype(np.uint8))
        palette = np.zeros((256, 3), np.uint8)
        palette[order] = colours
        image.putpalette(palette.ravel().tolist())
    elif mode == "RGBA":
        image.putalpha(Image.fromarray(generator.integers(0, 256, drawn.shape, dtype=np.uint8)))
    image.save(tmp_path / "m.png")
    expected = np.array(ids)[drawn]

    reader = MaskReader(colours=table)
    np.testing.assert_array_equal(reader.read(tmp_path / "m.png"), expected)
    assert reader.read_facts(tmp_path / "m.png", FactsCache(tmp_path)).counts == count_ids(expected)[1]

    gone = table.pop(tuple(colours[drawn[0, 0]].tolist()))
    table = table or {(1, 2, 3): 0}
    words = rf"m\.png: 1 colour that data\.colours does not name: .* {int((expected == gone).sum())} pixel"
    for read in (MaskReader(colours=table).read, lambda path: reader_facts(table, path)):
        with pytest.raises(DataError, match=words):
            read(tmp_path / "m.png")


def reader_facts(table, path):
    return MaskReader(colours=table).read_facts(path, FactsCache(path.parent))


def test_facts_are_kept_by_file_and_read_under_every_map(tmp_path):
    path = tmp_path / "m.png"
    Image.fromarray(np.array([[0, 1, 255]], np.uint8)).save(path)
    cache = FactsCache(tmp_path / "cache")
    assert MaskReader().read_facts(path, cache).counts == {0: 1, 1: 1, 255: 1}
    assert MaskReader({255: 1}).read_facts(path, cache).counts == {0: 1, 1: 2}
