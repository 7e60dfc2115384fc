"""What every format that is written must keep: masks come back with their ids and holes, pixel for pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import atrous
from annotated import save_image
from atrous.data import CONVERTERS, WRITTEN

WRITABLE = CONVERTERS.find_tagged(WRITTEN)
NAMES = {0: "background", 3: "cat", 7: "dog"}
SETTINGS = "data:\n  classes: {0: background, 3: cat, 7: dog}\n"


def draw_blobs(seed: int) -> np.ndarray:
    """Return a mask of ragged regions with holes, islands, specks and ignored pixels."""
    y, x = np.mgrid[:120, :160]
    mask = np.zeros((120, 160), np.uint8)
    generator = np.random.default_rng(seed)
    for number, radius in ((3, 40), (0, 25), (7, 18), (3, 12)):  # nested
        mask[(x - 60) ** 2 + (y - 60) ** 2 + generator.integers(0, 60, mask.shape) < radius**2] = number
    mask[20:60, 120:150] = 7
    mask[30:40, 130:140] = 3
    mask[100:, :20] = 255
    mask[generator.random(mask.shape) < 0.001] = 7
    mask[110, 40:90] = 3
    return mask


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for seed in range(3):
        place = tmp_path / "data" / "{}" / ("val" if seed == 2 else "train") / f"{seed}.png"
        save_image(Path(str(place).format("images")), 120, 160)
        Path(str(place).format("masks")).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_blobs(seed)).save(str(place).format("masks"))
    (tmp_path / "data" / "atrous.yaml").write_text(SETTINGS, encoding="utf-8")
    return tmp_path / "data"


@pytest.mark.parametrize("name", WRITABLE)
def test_masks_come_back(name: str, data: Path, tmp_path: Path) -> None:
    out = atrous.convert(data, tmp_path / "out", to_format=name, progress=False)
    assert (out.images, out.format) == (3, name)
    again = atrous.convert(tmp_path / "out", tmp_path / "again", classes=NAMES, progress=False)
    assert (again.problems, again.images, again.format) == ((), 3, name)
    assert dict(zip(again.label_space.ids, again.label_space.names, strict=True)) == NAMES
    for place in ("train/0", "train/1", "val/2"):
        image = data / "images" / f"{place}.png"
        assert (tmp_path / "again" / "images" / f"{place}.png").read_bytes() == image.read_bytes()
        before, after = (
            np.array(Image.open(folder / "masks" / f"{place}.png")) for folder in (data, tmp_path / "again")
        )
        np.testing.assert_array_equal(before, after, err_msg=place)


@pytest.mark.parametrize("name", WRITABLE)
def test_any_mask_comes_back_to_the_pixel(name: str, tmp_path: Path) -> None:
    """Noise has every case: specks, diagonals, regions in holes of regions."""
    generator = np.random.default_rng(0)
    masks = [generator.integers(0, 4, (9, 11), dtype=np.uint8) for _ in range(12)]
    for number, mask in enumerate(masks):
        save_image(tmp_path / "data" / "images" / f"{number}.png", 9, 11)
        (tmp_path / "data" / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "data" / "masks" / f"{number}.png")
    classes = ["background", "a", "b", "c"]
    (tmp_path / "data" / "atrous.yaml").write_text(f"data: {{classes: {classes}}}", encoding="utf-8")
    atrous.convert(tmp_path / "data", tmp_path / "out", to_format=name, progress=False)
    assert atrous.convert(tmp_path / "out", tmp_path / "again", progress=False).problems == ()
    for number, mask in enumerate(masks):
        assert (np.array(Image.open(tmp_path / "again" / "masks" / f"{number}.png")) == mask).all()


@pytest.mark.parametrize("name", WRITABLE)
def test_a_class_with_id_0_that_is_not_background_is_annotated(name: str, tmp_path: Path) -> None:
    for number in range(2):
        save_image(tmp_path / "data" / "images" / f"{number}.png", 20, 20)
        (tmp_path / "data" / "masks").mkdir(exist_ok=True)
        Image.fromarray(np.eye(20, dtype=np.uint8)).save(tmp_path / "data" / "masks" / f"{number}.png")
    (tmp_path / "data" / "atrous.yaml").write_text("data: {classes: [road, car]}", encoding="utf-8")
    atrous.convert(tmp_path / "data", tmp_path / "out", to_format=name, progress=False)
    result = atrous.convert(tmp_path / "out", tmp_path / "again", classes={0: "road", 1: "car"}, progress=False)
    assert (result.problems, result.pixels) == ((), {0: 760, 1: 40})


@pytest.mark.parametrize("name", list(CONVERTERS))
def test_the_tag_says_which_formats_are_written(name: str) -> None:
    converter = CONVERTERS.load(name)
    assert (converter.write is not None) == bool(converter.file) == (name in WRITABLE)
