from __future__ import annotations

import numpy as np
import pytest
import tifffile

from atrous.core.inputs import ImageForm
from atrous.core.labels import LabelSpace
from atrous.images.place import read_place
from atrous.inference.folders.prediction import OutputForm, Prediction

KEYS = (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32633)
TAGS = [
    (33550, "d", 3, (10.0, 10.0, 0.0), True),
    (33922, "d", 6, (0.0, 0.0, 0.0, 500_000.0, 4_000_000.0, 0.0), True),
    (34735, "H", len(KEYS), KEYS, True),
]


def predict(root, *, tags=TAGS):
    pixels = np.zeros((6, 8, 4), np.uint16)
    tifffile.imwrite(root / "a.tif", pixels, photometric="minisblack", planarconfig="contig", extratags=tags)
    labels = np.arange(48, dtype=np.uint8).reshape(6, 8) % 2
    is_missing = np.zeros((6, 8), bool)
    is_missing[:2] = True
    labels[is_missing] = 255
    space = LabelSpace(("one", "two"))
    form = ImageForm((0, 1, 2, 3), "uint16", (0.0, 10.0))
    return Prediction("a", pixels, labels, None, None, space, None, root / "a.tif", form, is_missing)


@pytest.mark.parametrize("palette", [False, True])
def test_labels_of_a_geotiff_are_at_the_same_place(tmp_path, palette):
    prediction = predict(tmp_path)
    (path,) = prediction.write(tmp_path / "out", OutputForm(palette=palette, overlay=False))
    assert path.name == "a.tif"
    np.testing.assert_array_equal(tifffile.imread(path), prediction.labels)
    with tifffile.TiffFile(path) as file:
        tags = file.pages.first.tags
        for code, _, _, values, _ in TAGS:
            assert tags[code].value == values
        assert tags[42113].value == "255"
    assert read_place(path) == read_place(tmp_path / "a.tif")


def test_labels_of_a_tiff_without_a_place_are_a_png(tmp_path):
    names = [path.name for path in predict(tmp_path, tags=()).write(tmp_path / "out", OutputForm())]
    assert names == ["a.png", "a_overlay.jpg"]
