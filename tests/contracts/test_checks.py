"""What every entry of CHECKS must keep: its findings carry its code, and an error says what to do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from atrous.core.findings import FILES_KEPT
from atrous.core.labels import LabelSpace
from atrous.data import CHECKS
from atrous.data.checks.survey import Survey
from atrous.data.facts import DatasetFacts, read_facts
from atrous.data.facts_cache import FactsCache
from atrous.data.inventory import Pair, take_inventory
from atrous.data.pairs import PairDataset

SPACE = LabelSpace(("road", "car", "tree"))


def save(path: Path, values: object, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, np.uint8)).save(path, **options)
    return path


def read(folder: Path, name: str, masks: list[list[list[int]]]) -> DatasetFacts:
    """Facts of pairs with all that can be wrong with files: one damaged pair, one too small, one rotated."""
    pairs = []
    for number, ids in enumerate(masks):
        image = save(folder / name / f"{number}.jpg", np.zeros((*np.shape(ids), 3)))
        pairs.append(Pair(str(number), image, save(folder / name / f"{number}.png", ids)))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    small = save(folder / name / "small.jpg", np.zeros((1, 1, 3)), exif=exif)
    broken = [folder / name / "broken.jpg", folder / name / "broken.png"]
    for path in broken:
        path.write_bytes(b"no image")
    pairs += [Pair("small", small, save(folder / name / "small.png", [[0, 0]])), Pair("broken", *broken)]
    return read_facts(PairDataset(f"mine {name}", SPACE, tuple(pairs)), FactsCache(folder / "cache"))


def take_survey(root: Path, case: str) -> Survey:
    """Data with everything wrong that can be wrong at once; some mistakes exclude each other."""
    for name in ("a.png", "a.jpg", "alone.png", ".hidden.png"):
        save(root / "images" / name, np.zeros((2, 2, 3)))
    for name in ("a.png", "orphan.png"):
        save(root / "masks" / name, np.zeros((2, 2)))
    (root / "images" / "notes.txt").touch()
    (root / "images" / "more").symlink_to(root / "masks")
    (root / "images" / "device.png").symlink_to("/dev/null")
    inventories = take_inventory([("", root / "images", root / "masks"), ("", root / "gone", root / "gone")])
    train = {
        "named": [[[0, 255], [9, 0]]],
        "found": [[[0, 0], [9, 9]]],
        "ignored": [[[255, 255]]],
        "binary": [[[0, 255]]],
    }[case]
    facts = read(root, "train", train)
    if case in ("ignored", "binary"):
        facts = DatasetFacts(facts.name, facts.label_space, facts.items[:1])
        return Survey(inventories, facts)
    val = read(root, "val", [[[0, 1]]])
    facts, val = (
        replace(split, items=(replace(split.items[0], digest="a"), *split.items[1:])) for split in (facts, val)
    )
    return Survey(inventories, facts, val, are_classes_named=case == "named")


@pytest.fixture(scope="module")
def surveys(tmp_path_factory: pytest.TempPathFactory) -> list[Survey]:
    return [take_survey(tmp_path_factory.mktemp(case), case) for case in ("named", "found", "ignored", "binary")]


@pytest.mark.parametrize("code", list(CHECKS))
def test_findings_have_the_code_of_their_check_and_errors_a_fix(code, surveys):
    findings = [finding for survey in surveys for finding in CHECKS.load(code)(survey)]
    assert findings
    for finding in findings:
        assert finding.code == code
        assert finding.count >= 1
        assert finding.message
        assert finding.fix or finding.severity != "error"
        assert len(finding.files) <= min(finding.count, FILES_KEPT) or code == "duplicate-name"
    assert list(CHECKS.load(code)(Survey())) == []
