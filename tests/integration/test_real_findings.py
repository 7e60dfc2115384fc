"""What a check finds in real data, compared with a list that was verified by counting and by looking at the files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from atrous.config.load import load_config
from atrous.runs.check import check_data

CAMVID = [
    ("same-group-across-splits", "warning", 101, "0016E5 (204 in train, 101 in val)"),
    ("ignored-ids", "note", 1, "camvid train: ignored ids: 11 (2,503,995 pixels)"),
    ("ignored-ids", "note", 1, "camvid val: ignored ids: 11 (297,271 pixels)"),
]
"""All 101 images of val are of a drive, 0016E5, of which 204 images are in train."""
VOC_ANIMALS = [
    ("named-class-empty", "error", 1, "no valid pixel of 'aeroplane' (id 1) in 3,131 masks"),
    ("class-in-one-split-only", "warning", 4, "no pixel of 'bird' (id 3), 'boat' (id 4), 'train' (id 19), 'tvmonitor'"),
    ("rare-class", "warning", 5, "'bus' (id 6): 887 pixels in 1 image, 'motorbike' (id 14): 59,578 pixels in 6 images"),
    ("ignored-ids", "note", 1, "voc train_aug: ignored ids: 255 (4,986,930 pixels)"),
    ("ignored-ids", "note", 1, "voc val: ignored ids: 255 (2,280,050 pixels)"),
]
"""The images of VOC that show animals: other classes are rare in them, or absent."""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "source", "train", "expected"),
    [("camvid", "camvid", None, CAMVID), ("voc_animals", "voc", "train_aug", VOC_ANIMALS)],
)
def test_real_data_have_exactly_the_findings_that_were_verified(folder, source, train, expected):
    root = Path(os.environ.get("ATROUS_DATA", "")) / folder
    if "ATROUS_DATA" not in os.environ or not root.is_dir():
        pytest.skip(f"no {folder}/ in the folder that ATROUS_DATA names")
    config = load_config(options={"data.source": f"{source}={root}", "data.split.train": train}).config
    findings = check_data(config.data).findings
    assert [(finding.code, finding.severity, finding.count) for finding in findings] == [row[:3] for row in expected]
    for finding, (*_, text) in zip(findings, expected, strict=True):
        assert text in finding.message
