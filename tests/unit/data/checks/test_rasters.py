from __future__ import annotations

import numpy as np
import pytest

from atrous.config.load import load_config
from atrous.config.schema import DataConfig
from atrous.runs.check import check_data

tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")


def test_images_with_some_data_are_never_proposed_for_exclusion(tmp_path):
    for number in range(4):
        pixels = np.random.default_rng(number).integers(1, 200, (40, 40, 5)).astype(np.uint8)
        pixels[: 40 if number == 3 else 10] = 0
        for folder, values in (("images", pixels), ("masks", (pixels[..., 0] > 99).astype(np.uint8))):
            (tmp_path / folder).mkdir(exist_ok=True)
            tags = [(42113, "s", 0, "0", True)] if folder == "images" else []
            path, planes = tmp_path / folder / f"{number}.tif", "contig" if values.ndim == 3 else None
            tifffile.imwrite(path, values, photometric="minisblack", planarconfig=planes, extratags=tags)
    result = check_data(DataConfig(source=str(tmp_path)), page=tmp_path / "check.html")
    found = [finding for finding in result.findings if finding.code == "nodata"]
    assert [(finding.severity, finding.count) for finding in found] == [("warning", 1), ("note", 3)]
    assert [dict(finding.settings) for finding in found] == [{"exclude": ["images/3.tif"]}, {}]


def test_a_raster_with_blocks_in_both_splits_is_named_once(tmp_path, monkeypatch):
    monkeypatch.setattr("atrous.images.decode.HUGE_PX", 64 * 64 - 1)
    monkeypatch.setattr("atrous.data.rasters.BLOCK_PX", 32)
    rows = np.arange(64)[:, None].repeat(64, axis=1)
    for name, values in (("images", np.full((64, 64, 3), 5)), ("masks", (rows // 8) % 2 * 7)):
        (tmp_path / name).mkdir()
        kind = "rgb" if values.ndim == 3 else "minisblack"
        tifffile.imwrite(tmp_path / name / "scene.tif", values.astype(np.uint8), photometric=kind)
    (tmp_path / "atrous.yaml").write_text("data: {classes: {0: road, 1: car}}\n")
    result = check_data(load_config(options={"data.source": str(tmp_path)}).config.data)
    found = {finding.code: finding for finding in result.findings}
    assert (found["dark-images"].count, found["dark-images"].files) == (1, (str(tmp_path / "images/scene.tif"),))
    assert (found["unknown-id"].count, found["unknown-id"].files) == (1, (str(tmp_path / "masks/scene.tif"),))
    assert "7 (2,048 pixels)" in found["unknown-id"].message
