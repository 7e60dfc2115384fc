from __future__ import annotations

import numpy as np
import pytest
from PIL import ExifTags, Image

from atrous.core.errors import DataError
from atrous.core.findings import Finding, require_no_errors
from atrous.core.labels import LabelSpace
from atrous.data.checks.survey import Survey, run_checks
from atrous.data.facts import read_facts
from atrous.data.facts_cache import FactsCache
from atrous.data.inventory import Pair
from atrous.data.pairs import PairDataset


def build(folder, masks, space, sizes=None, name="mine train") -> PairDataset:
    folder.mkdir(exist_ok=True)
    pairs = []
    for number, mask in enumerate(masks):
        image, path = folder / f"{number}.jpg", folder / f"{number}.png"
        Image.fromarray(np.asarray(mask, np.uint8)).save(path)
        Image.new("RGB", (sizes or {}).get(number, np.asarray(mask).shape[::-1]), "white").save(image)
        pairs.append(Pair(str(number), str(image), str(path)))
    return PairDataset(name, space, tuple(pairs))


def check(folder, train, val=None, *, named=False) -> dict[str, Finding]:
    with FactsCache(folder / "cache") as cache:
        facts = [read_facts(dataset, cache) for dataset in (train, val) if dataset is not None]
    findings = run_checks(Survey(train=facts[0], val=facts[1] if val else None, are_classes_named=named))
    return {finding.code: finding for finding in findings}


def test_broken_files_size_mismatches_and_strange_ids_come_in_one_message(tmp_path):
    masks = [[[0, 1]], [[0, 1]], [[0, 5]], [[0, 1]], [[0, 1]], [[0, 1]]]
    dataset = build(tmp_path, masks, LabelSpace(("road", "car")), sizes={1: (2, 2)})
    (tmp_path / "3.png").write_bytes(b"")
    (tmp_path / "4.jpg").write_text("no image")
    (tmp_path / "5.jpg").write_bytes((tmp_path / "5.jpg").read_bytes()[:-9])
    found = check(tmp_path, dataset)
    assert {code for code, finding in found.items() if finding.severity == "error"} == {
        "unreadable-image",
        "unreadable-mask",
        "size-mismatch",
        "unknown-id",
    }
    assert found["unreadable-mask"].files == (str(tmp_path / "3.png"),)
    with pytest.raises(DataError) as caught:
        require_no_errors(found.values())
    message = caught.value.message
    assert "1 mask that cannot be read" in message
    assert "3.png: an empty file" in message
    assert "2 images that cannot be read" in message
    assert "4.jpg: not an image" in message
    assert "5.jpg: cannot be decoded" in message
    assert "1.jpg is 2x2 (height x width)" in message
    assert "5 (1 pixel)" in message
    assert "never resized" in caught.value.hint


def test_exif_rotations_are_counted_and_mismatches_explained(tmp_path):
    dataset = build(tmp_path, [np.eye(4), np.zeros((4, 6))], LabelSpace(("road", "car")))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (4, 4), "white").save(tmp_path / "0.jpg", exif=exif)
    found = check(tmp_path, dataset)
    assert set(found) == {"exif-rotated"}
    assert (found["exif-rotated"].severity, found["exif-rotated"].count) == ("note", 1)
    Image.new("RGB", (6, 4), "white").save(tmp_path / "1.jpg", exif=exif)
    assert "drawn on the unrotated image" in check(tmp_path, dataset)["size-mismatch"].message
