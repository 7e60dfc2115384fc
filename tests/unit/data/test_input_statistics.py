from __future__ import annotations

import numpy as np
import tifffile
from PIL import Image

from atrous.config.schema import DataConfig
from atrous.core.labels import IGNORE_INDEX
from atrous.data.build import build_splits
from atrous.data.input_statistics import describe_input, measure_input


def write(root, *, nodata=False):
    generator = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    for number in range(6):
        pixels = generator.integers(100, 3000, (12, 14, 4)).astype(np.uint16)
        tags = []
        if nodata:
            pixels[:2] = 0
            tags = [(42113, "s", 0, "0", True)]
        tifffile.imwrite(
            root / "images" / f"{number}.tif", pixels, photometric="minisblack", planarconfig="contig", extratags=tags
        )
        Image.fromarray(generator.integers(0, 2, (12, 14)).astype(np.uint8)).save(root / "masks" / f"{number}.png")
    return DataConfig(source=str(root), classes=("one", "two"), value_range=(0.0, 4000.0))


def test_mean_and_deviation_are_those_of_the_labelled_pixels(tmp_path):
    splits = build_splits(write(tmp_path / "a", nodata=True))
    values = []
    for index in range(len(splits.train)):
        sample = splits.train.get(index)
        assert (sample.labels[:2] == IGNORE_INDEX).all()
        assert (sample.labels[2:] != IGNORE_INDEX).all()
        values.append(tifffile.imread(splits.train.image_path(index))[2:].reshape(-1, 4))
    spec = measure_input(splits.train, seed=0)
    np.testing.assert_allclose(spec.stored_mean, np.concatenate(values).mean(axis=0))
    np.testing.assert_allclose(np.array(spec.std) * 4000, np.concatenate(values).std(axis=0))
    assert "4 bands of uint16" in describe_input(spec)
