"""The table of classes: counts of the labels that were written, and areas of images with a place."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from atrous.core.inference_options import InferenceOptions
from atrous.inference.build import build_labeller
from atrous.inference.engine import Engine
from atrous.inference.folders.writer import save_predictions
from atrous.inference.labelling.labeller import Labeller
from atrous.networks.segmenter import Segmenter
from tiny import TINY_SPACE

GEO = {
    33550: (2.0, 0.5, 0.0),
    33922: (0.0, 0.0, 0.0, 4e5, 5e6, 0.0),
    34735: (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32633),
}


@pytest.fixture
def labeller(tiny_network: Segmenter) -> Labeller:
    return build_labeller(Engine(tiny_network, device="cpu"), TINY_SPACE, InferenceOptions())


def save_inputs(folder: Path) -> None:
    folder.mkdir()
    pixels = [np.random.default_rng(number).integers(0, 256, (33, 40, 3), dtype=np.uint8) for number in range(2)]
    Image.fromarray(pixels[0]).save(folder / "a.png")
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for code, value in GEO.items():
        info.tagtype[code] = 3 if code == 34735 else 12
        info[code] = value
    Image.fromarray(pixels[1]).save(folder / "b.tif", tiffinfo=info)


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("min_confidence", [0.0, 0.35])
def test_rows_count_the_pixels_of_every_class(labeller: Labeller, tmp_path: Path, min_confidence: float) -> None:
    save_inputs(tmp_path / "in")
    options = {"formats": ("ids", "areas"), "model_digest": "m", "min_confidence": min_confidence}
    save_predictions(labeller, [tmp_path / "in"], tmp_path / "out", **options)
    rows = read_rows(tmp_path / "out" / "areas.csv")
    for image, key, m2 in (("a.png", "a", None), ("b.tif", "b", 1.0)):
        (path,) = (tmp_path / "out").glob(f"{key}.[pt][ni][gf]")
        labels = np.array(Image.open(path))
        own = [row for row in rows if row["image"] == image]
        assert [int(row["id"]) for row in own][: len(TINY_SPACE.ids)] == list(TINY_SPACE.ids)
        assert sum(int(row["pixels"]) for row in own) == labels.size
        for row in own:
            count = int((labels == int(row["id"])).sum())
            assert int(row["pixels"]) == count
            assert float(row["share"]) == pytest.approx(count / labels.size, abs=1e-8)
            assert row["m2"] == ("" if m2 is None else f"{count * m2:.10g}")
        assert (min_confidence > 0) or {row["class"] for row in own} == set(TINY_SPACE.names)
    before = (tmp_path / "out" / "areas.csv").read_bytes()
    report = save_predictions(labeller, [tmp_path / "in"], tmp_path / "out", **options)
    assert (len(report.kept), (tmp_path / "out" / "areas.csv").read_bytes()) == (2, before)


def test_an_image_larger_than_memory_is_measured_too(
    labeller: Labeller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tifffile", reason="tifffile is not installed")
    monkeypatch.setattr("atrous.images.decode.HUGE_PX", 2000)
    pixels = np.random.default_rng(0).integers(0, 256, (70, 60, 3), dtype=np.uint8)
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / "in" / "c.tif")
    save_predictions(labeller, [tmp_path / "in"], tmp_path / "out", formats=("labels", "areas"))
    labels = np.array(Image.open(tmp_path / "out" / "c.tif"))
    rows = read_rows(tmp_path / "out" / "areas.csv")
    assert [int(row["pixels"]) for row in rows] == [int((labels == number).sum()) for number in TINY_SPACE.ids]
