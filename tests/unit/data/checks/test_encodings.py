from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from atrous.core.findings import Finding
from atrous.core.labels import LabelSpace
from atrous.data.checks.encodings import _find_blended
from atrous.data.checks.survey import Survey, run_checks
from atrous.data.facts import read_facts
from atrous.data.facts_cache import FactsCache
from atrous.data.inventory import Pair
from atrous.data.pairs import PairDataset

SPACE = LabelSpace(("road", "car"), (0, 200))


def check(folder, masks, space=SPACE, *, named=True) -> dict[str, Finding]:
    pairs = []
    for number, mask in enumerate(masks):
        image, path = folder / f"{number}.jpg", folder / f"{number}.png"
        Image.new("RGB", mask.size, "white").save(image)
        mask.save(path)
        pairs.append(Pair(str(number), str(image), str(path)))
    dataset = PairDataset("mine train", space, tuple(pairs))
    with FactsCache(folder / "cache") as cache:
        facts = read_facts(dataset, cache)
    findings = run_checks(Survey(train=facts, are_classes_named=named, root=folder))
    return {finding.code: finding for finding in findings}


def draw_disc(side: int = 120, value: int = 200) -> Image.Image:
    rows, columns = np.mgrid[:side, :side] - side // 2
    return Image.fromarray(((rows**2 + columns**2 < (side // 3) ** 2) * value).astype(np.uint8))


@pytest.mark.parametrize("how", ["enlarged", "reduced", "jpeg"])
def test_masks_with_blended_edges_are_found_and_others_are_not(tmp_path, how):
    sound = draw_disc()
    broken = sound
    if how == "jpeg":
        sound.save(tmp_path / "a.jpg", quality=90)
        broken = Image.open(tmp_path / "a.jpg")
    else:
        broken = sound.resize((170, 170) if how == "enlarged" else (70, 70), Image.Resampling.BILINEAR)
    found = check(tmp_path, [sound, broken, sound])
    assert found["interpolated-mask"].count == 1
    assert found["interpolated-mask"].files == (str(tmp_path / "1.png"),)
    assert found["interpolated-mask"].settings == {"exclude": ["1.png"]}
    assert "interpolated-mask" not in check(tmp_path, [sound, sound.resize((170, 170), Image.Resampling.NEAREST)])


def test_thin_objects_are_no_blends(tmp_path):
    """Two thin lines of classes between others: fewer than blends have, and lines of two pixels are solid."""
    mask = np.array(draw_disc())
    for number, row in enumerate((10, 20)):
        mask[row] = 50 + number
    for number, row in enumerate((100, 110, 115)):
        mask[row : row + 2] = 60 + number
    space = LabelSpace(tuple("abcdefg"), (0, 50, 51, 60, 61, 62, 200))
    assert "interpolated-mask" not in check(tmp_path, [Image.fromarray(mask)], space)


def test_thin_classes_beside_void_are_no_blends_and_no_masks_of_two_values(tmp_path):
    mask = np.zeros((60, 80), np.uint8)
    mask[:, :40] = 255
    for number in (1, 2, 3):
        mask[5 * number, 45:70] = number
    found = check(tmp_path, [Image.fromarray(mask)] * 4, LabelSpace(("ground", "a", "b", "c")), named=False)
    assert not {"interpolated-mask", "binary-255"} & {*found}


def test_palettes_in_another_order_are_found(tmp_path):
    masks = [Image.fromarray(np.array([[0, 1, 1], [0, 2, 2]], np.uint8)) for _ in range(3)]
    space = LabelSpace(("a", "b", "c"))
    palettes = [[0, 0, 0, 255, 0, 0, 0, 255, 0], [0, 0, 0, 255, 0, 0, 0, 255, 0], [0, 0, 0, 0, 255, 0, 255, 0, 0]]
    for mask, palette in zip(masks, palettes, strict=True):
        mask.putpalette(palette)
    finding = check(tmp_path, masks, space)["palettes-differ"]
    assert (finding.severity, finding.count) == ("error", 1)
    assert "(0, 255, 0) is 2 in" in finding.message
    assert "palettes-differ" not in check(tmp_path, masks[:2], space)
    for mask in masks:
        mask.putpalette([0, 0, 0, 0, 0, 0, 0, 0, 0])
    assert "palettes-differ" not in check(tmp_path, masks, space)


def test_encodings_are_told_by_what_is_in_the_file(tmp_path):
    space = LabelSpace(("road", "car"))
    check(tmp_path, [Image.fromarray(np.array([[0, 1]], np.uint8))] * 2, space)
    Image.fromarray(np.array([[0, 1]], np.uint8)).save(tmp_path / "0.png", format="JPEG")
    facts = read_facts(
        PairDataset("x", space, (Pair("0", str(tmp_path / "0.jpg"), str(tmp_path / "0.png")),)),
        FactsCache(tmp_path / "other"),
    )
    codes = {finding.code for finding in run_checks(Survey(train=facts, are_classes_named=True))}
    assert "lossy-mask" in codes
    assert "unreadable-mask" not in codes


def test_classes_in_shades_of_grey_or_in_steps_of_a_palette_are_no_blends():
    greys = {(level << 16) + (level << 8) + level: 10 for level in (50, 100, 150, 200)}
    palette = {64 << 16: 10, 128 << 16: 500, 192 << 16: 10, 64 << 8: 10, 128 << 8: 500, 64 << 16 | 64 << 8: 10}
    for table in (greys, palette):
        assert _find_blended({0: 10_000, 0xFFFFFF: 5_000} | table) == {}
    smooth = {level << 16: 10 for level in (10, 90, 200)}
    assert _find_blended({0: 10_000, 255 << 16: 5_000} | smooth) == {10 << 16: 0, 90 << 16: 0, 200 << 16: 255 << 16}
