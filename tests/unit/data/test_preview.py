from __future__ import annotations

import numpy as np
from PIL import Image

from atrous.core.labels import VOID_COLOUR, LabelSpace
from atrous.data.augment.pipeline import Augmentation
from atrous.data.inventory import Pair
from atrous.data.pairs import PairDataset
from atrous.data.preview import save_preview
from atrous.data.sampling import Stream


def test_the_sheet_shows_16_pairs_and_a_legend(tmp_path):
    Image.fromarray(np.full((30, 30, 3), 77, np.uint8)).save(tmp_path / "p.png")
    Image.fromarray(np.ones((30, 30), np.uint8)).save(tmp_path / "m.png")
    space = LabelSpace(("ground", *(f"a long class name {number}" for number in range(12))))
    dataset = PairDataset("mine", space, (Pair("p", str(tmp_path / "p.png"), str(tmp_path / "m.png")),))
    stream = Stream(dataset, Augmentation(crop=20, scale_range=(1.0, 1.0)), 0)

    save_preview(stream, space, tmp_path / "out" / "preview.png")

    sheet = np.asarray(Image.open(tmp_path / "out" / "preview.png"))
    per_cell = 220 * 220
    assert (sheet[: 4 * 228] == 77).all(axis=2).sum() == 16 * per_cell
    assert (sheet == space.colours[1]).all(axis=2).sum() >= 16 * per_cell
    legend = sheet[4 * 228 + 8 :]
    for colour in (*space.colours, VOID_COLOUR):
        assert (legend == colour).all(axis=2).any()
