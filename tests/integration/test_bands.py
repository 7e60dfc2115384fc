"""Satellite images of six 16-bit bands, from the check to an exported file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import atrous
from atrous.cli.main import main

tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")

KEYS = (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32633)
NODATA, VOID = 65535, 255
SIDE, NUM_IMAGES = 66, 4
OPTIONS = (
    *("--model", "fcn-tiny", "--weights", "none", "--crop", "65", "--batch", "2", "--iterations", "20", "--lr", "0.01"),
    *("--set", "training.optimizer=adamw", "--set", "training.norm_momentum=0.5"),
    *("--workers", "0", "--quiet", "--device", "cpu"),
)


def make_tags(number: int) -> list[tuple[int, str, int, object, bool]]:
    """Return the tags that place an image of pixels of 10 metres in UTM zone 33, and name its nodata value."""
    return [
        (33550, "d", 3, (10.0, 10.0, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 500_000.0 + number * 1000, 4_000_000.0, 0.0), True),
        (34735, "H", len(KEYS), KEYS, True),
        (42113, "s", 0, str(NODATA), True),
    ]


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Images whose fifth band alone tells water from fields; the upper rows have no data."""
    root = tmp_path / "scenes"
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for number in range(NUM_IMAGES):
        truth = np.zeros((SIDE, SIDE), np.uint8)
        truth[:, 20 + number * 6 :] = 7
        pixels = np.random.default_rng(number).integers(200, 1200, (SIDE, SIDE, 6)).astype(np.uint16)
        pixels[..., 4] += np.where(truth == 7, 2500, 0).astype(np.uint16)
        pixels[: 4 + number] = NODATA
        path = root / "images" / f"p{number}.tif"
        tifffile.imwrite(
            path, pixels, photometric="minisblack", planarconfig="contig", extratags=make_tags(number), metadata=None
        )
        tifffile.imwrite(root / "masks" / f"p{number}.tif", truth, extratags=make_tags(number)[:3], metadata=None)
    (root / "atrous.yaml").write_text("data: {value_range: [0, 4095], classes: {0: field, 7: water}}\n")
    return root


def read_stored(folder: Path) -> np.ndarray:
    """Return what the images of a folder store, (N, H, W, ...)."""
    return np.stack([tifffile.imread(folder / f"p{number}.tif") for number in range(NUM_IMAGES)])


@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_six_bands_of_16_bits_from_the_check_to_an_exported_file(scenes, tmp_path, capsys):
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    run, out, exported = tmp_path / "run", tmp_path / "out", tmp_path / "model.onnx"
    assert main(["check", str(scenes), "--json", "--out", str(tmp_path / "check.html")]) in (0, 1)
    codes = {finding["code"] for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert codes == {"nodata"}

    assert main(["train", str(scenes), "--out", str(run), *OPTIONS]) == 0
    capsys.readouterr()
    options = ["--device", "cpu", "--precision", "fp32"]
    assert main(["eval", str(run), str(scenes), "--json", *options]) == 0
    scores = json.loads(capsys.readouterr().out)
    images = str(scenes / "images")
    assert main(["predict", images, "--model", str(run), "--out", str(out), "--quiet", *options]) == 0

    is_missing = (read_stored(scenes / "images") == NODATA).all(axis=-1)
    labels, truth = read_stored(out), read_stored(scenes / "masks")
    np.testing.assert_array_equal(labels == VOID, is_missing)
    assert set(np.unique(labels)) <= {0, 7, VOID}
    for number in range(NUM_IMAGES):
        with tifffile.TiffFile(out / f"p{number}.tif") as file:
            tags = file.pages.first.tags
            for code, _, _, values, _ in make_tags(number)[:3]:
                assert tags[code].value == values
            assert tags[42113].value == str(VOID)
    assert scores["miou"] > 0.7  # which only the fifth band allows
    for row in scores["classes"]:  # counted again from the files, without the pixels that have no data
        mine, theirs = ((ids == row["id"]) & ~is_missing for ids in (labels, truth))
        assert row["iou"] == pytest.approx((mine & theirs).sum() / (mine | theirs).sum(), abs=1e-6)

    assert main(["export", str(run), "--out", str(exported), "--quiet"]) == 0
    model, file = atrous.load(run, device="cpu", precision="fp32"), atrous.load(exported, device="cpu")
    for path in sorted((scenes / "images").iterdir()):
        expected, found = model.predict(path), file.predict(path)
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_allclose(found.confidence, expected.confidence, atol=1e-4)
