from __future__ import annotations

import numpy as np
from PIL import Image

from atrous.core.labels import LabelSpace
from atrous.data.inventory import Pair
from atrous.data.joined import JoinedDataset
from atrous.data.pairs import PairDataset


def test_parts_follow_one_another_and_a_key_counts_once(tmp_path):
    pairs = []
    for number in range(3):
        Image.fromarray(np.full((2, 2), number, np.uint8)).save(tmp_path / f"{number}.png")
        pairs.append(Pair(str(number), *2 * [str(tmp_path / f"{number}.png")]))
    space = LabelSpace(("a", "b", "c"))
    one, other = PairDataset("x train", space, tuple(pairs[:2])), PairDataset("x val", space, tuple(pairs[1:]))

    joined = JoinedDataset("x", (one, other))

    assert [joined.key(index) for index in range(len(joined))] == ["0", "1", "2"]
    assert [int(joined.get(index).labels[0, 0]) for index in range(3)] == [0, 1, 2]
    assert joined.mask(2)[0, 0] == 2
    assert joined.mask_path(2) == joined.image_path(2) == tmp_path / "2.png"
    assert joined.label_space is space
