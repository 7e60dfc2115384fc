from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.core.errors import DataError
from atrous.core.labels import IGNORE_INDEX, LabelSpace
from atrous.data.excerpts import choose_excerpts
from atrous.data.inventory import Pair
from atrous.data.pairs import PairDataset

SPACE = LabelSpace(("ground", "road", "sign"), ids=(0, 4, 9))


def build_dataset(folder: Path, masks: list[np.ndarray]) -> PairDataset:
    pairs = []
    for number, mask in enumerate(masks):
        image, path = folder / f"{number}.jpg", folder / f"{number}.png"
        Image.new("RGB", mask.shape[::-1]).save(image)
        Image.fromarray(mask.astype(np.uint8)).save(path)
        pairs.append(Pair(str(number), str(image), str(path)))
    return PairDataset("mine train", SPACE, tuple(pairs))


def test_the_images_with_the_rarest_classes_are_chosen_and_cut_where_these_are(tmp_path):
    masks = [np.zeros((200, 300), np.uint8) for _ in range(10)]
    for mask in masks[3:]:
        mask[:, :150] = 4
    masks[7][180:, 280:] = 9
    dataset = build_dataset(tmp_path, masks)

    excerpts = choose_excerpts(dataset, 100, seed=0)

    assert excerpts.key(0) == "7"
    assert excerpts.key(1) in "345689"  # ground and road: neither was shown twice
    first = excerpts.get(0)
    assert first.image.shape == (100, 100, 3)
    assert first.labels.shape == (100, 100)
    assert (first.labels == 2).sum() >= 64
    assert set(np.unique(excerpts.mask(0))) <= {0, 4, 9}
    again = choose_excerpts(dataset, 100, seed=0)
    assert [(sample.key, sample.labels.tolist()) for sample in again.samples] == [
        (sample.key, sample.labels.tolist()) for sample in excerpts.samples
    ]


def test_the_statistics_are_those_of_the_crops(tmp_path):
    mask = np.full((50, 40), 255, np.uint8)
    mask[:10] = 4
    excerpts = choose_excerpts(build_dataset(tmp_path, [mask]), 100, seed=0)
    statistics = excerpts.compute_statistics()
    assert len(excerpts) == 1  # there is one image, smaller than the crop
    assert statistics.pixels.tolist() == [0, 400, 0]
    assert statistics.presence.tolist() == [[False, True, False]]
    assert (statistics.ignored_pixels, statistics.ignored_share, statistics.longest_side_px) == (1600, 0.8, 50)
    assert (excerpts.get(0).labels == IGNORE_INDEX).sum() == 1600
    assert (excerpts.mask(0) == SPACE.void_id).sum() == 1600


def test_masks_that_are_ignored_as_a_whole_are_refused(tmp_path):
    dataset = build_dataset(tmp_path, [np.full((30, 30), 255, np.uint8)] * 3)
    with pytest.raises(DataError, match="no pixel of a class in 3 masks: all are ignored") as caught:
        choose_excerpts(dataset, 20, seed=0)
    assert "data.ignore" in caught.value.hint


def test_an_image_without_a_label_is_not_chosen(tmp_path):
    masks = [np.full((30, 30), 255, np.uint8)] * 5 + [np.zeros((30, 30), np.uint8)]
    assert [sample.key for sample in choose_excerpts(build_dataset(tmp_path, masks), 20, seed=0).samples] == ["5"]
