from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from atrous.core.errors import DataError, UsageError
from atrous.core.labels import LabelSpace
from atrous.data.facts import DatasetFacts, ItemFacts, describe_size_mismatch, iter_threads, join_blocks, read_facts
from atrous.data.facts_cache import FactsCache, MaskFacts
from atrous.images.decode import ImageHeader
from atrous.images.traits import ImageTraits
from atrous.images.windows import Window


def test_a_mask_of_the_unrotated_image_is_named_as_such():
    turned = ImageHeader(8, 5, "RGB", is_turned=True)
    line = describe_size_mismatch(Path("a.png"), turned, Path("m.png"), (5, 8))
    assert "EXIF" in line
    assert "drawn on the unrotated image" in line
    assert "8x5" in line
    assert describe_size_mismatch(Path("a.png"), turned, Path("m.png"), (8, 5)) == ""
    assert "EXIF" not in describe_size_mismatch(Path("a.png"), turned, Path("m.png"), (3, 3))


def test_a_mask_of_a_scaled_image_is_named_as_such():
    header = ImageHeader(480, 640, "RGB", is_turned=False)
    line = describe_size_mismatch(Path("a.png"), header, Path("m.png"), (240, 320))
    assert line.endswith("the mask was drawn on the image at 0.5 times its size")
    assert "times" not in describe_size_mismatch(Path("a.png"), header, Path("m.png"), (240, 330))


class MadeMasks:
    """A Python data set of masks that are made, which remembers the threads that call it."""

    name = "made"
    label_space = LabelSpace(("a", "b"))

    def __init__(self, masks):
        self.masks = masks
        self.threads = set()

    def __len__(self):
        return len(self.masks)

    def key(self, index):
        self.threads.add(threading.get_ident())
        return f"made/{index}"

    def mask(self, index):
        self.threads.add(threading.get_ident())
        if index == 7:
            raise DataError("the eighth is missing")
        return self.masks[index]

    def image_path(self, index):
        return None

    mask_path = image_path


def test_a_python_data_set_is_read_from_the_callers_thread(tmp_path):
    dataset = MadeMasks([np.full((2, 3), index % 2, np.uint8) for index in range(9)])
    seen = []
    facts = read_facts(dataset, FactsCache(tmp_path), seen.append)
    assert dataset.threads == {threading.get_ident()}
    assert facts.items[1].mask.counts == {1: 6}
    assert facts.items[7].mask is None
    assert facts.items[7].mask_error.message == "the eighth is missing"
    assert facts.sum_pixels() == {0: 30, 1: 18}
    assert [progress.done for progress in seen] == list(range(1, 10))
    dataset.threads.clear()
    dataset.thread_safe = True
    assert read_facts(dataset, FactsCache(tmp_path)).sum_pixels() == facts.sum_pixels()
    assert len(dataset.threads) > 1


def test_a_made_mask_of_another_form_is_refused_with_its_key(tmp_path):
    for mask in (np.zeros((2, 2)), None):
        with pytest.raises(UsageError, match=r"made: sample 0 \('made/0'\): the mask is"):
            read_facts(MadeMasks([mask]), FactsCache(tmp_path))


def test_ids_of_made_masks_may_be_any_whole_numbers(tmp_path):
    masks = [np.array([[-1, 70000]]), np.array([[-1, 2]], np.int8)]
    assert read_facts(MadeMasks(masks), FactsCache(tmp_path)).sum_pixels() == {-1: 2, 2: 1, 70000: 1}


def test_threads_keep_order_and_leave_none_behind():
    before = threading.active_count()
    assert list(iter_threads(lambda number: number * number, range(6))) == [0, 1, 4, 9, 16, 25]
    assert threading.active_count() == before


def test_the_blocks_of_a_raster_are_joined_to_one_item():
    windows = [Window(0, 0, 4, 3, (4, 4)), Window(0, 3, 4, 1, (4, 4))]
    damaged = DataError("cut off")
    traits = [
        ImageTraits((1, 1, 1), 40, 16, 900, values=((2, 8), (1, 5)), missing=0.0),
        ImageTraits((1, 1, 1), 60, 16, 700, values=((3, 9), (0, 4)), missing=1.0),
    ]
    items = [
        ItemFacts(
            f"r{window.label}",
            "r.tif",
            "m.tif",
            ImageHeader(window.height, window.width, "I;16", False),
            MaskFacts(window.size, {number: window.height * window.width - 2, 7: 2}, digest=f"m{number}"),
            damaged if number else None,
            digest=f"d{number}",
            traits=own,
            window=window,
        )
        for number, (window, own) in enumerate(zip(windows, traits, strict=True))
    ]
    (whole,) = join_blocks(DatasetFacts("x", LabelSpace(("a",)), tuple(items))).items
    assert (whole.key, whole.image, whole.image_error) == ("r", ImageHeader(4, 4, "I;16", False), damaged)
    assert (whole.digest, whole.mask.digest) == ("d0 d1", "m0 m1")
    assert (whole.mask.size, whole.mask.counts) == ((4, 4), {0: 10, 1: 2, 7: 4})
    assert (whole.traits.brightest, whole.traits.peak, whole.traits.missing) == (60, 900, 0.25)
    assert whole.traits.values == ((2, 9), (0, 5))
