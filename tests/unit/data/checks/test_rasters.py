from __future__ import annotations

import numpy as np
import pytest

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
