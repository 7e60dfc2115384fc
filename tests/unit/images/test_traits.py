from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from atrous.images.decode import check_image
from atrous.images.traits import ImageTraits


def draw(seed: int = 0, size: tuple[int, int] = (90, 120)) -> np.ndarray:
    """Smooth noise: a small random image, enlarged."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC))


def read(path, pixels, **options) -> ImageTraits:
    Image.fromarray(pixels).save(path, **options)
    return check_image(path)[1]


def count_differing(one: ImageTraits, other: ImageTraits) -> int:
    return (one.fingerprint ^ other.fingerprint).bit_count()


def test_traits_survive_json(tmp_path):
    traits = read(tmp_path / "a.png", draw())
    assert ImageTraits.from_json(json.loads(json.dumps(traits.to_json()))) == traits
    with pytest.raises((TypeError, ValueError)):
        ImageTraits.from_json([1, 2])


def test_the_fingerprint_is_that_of_the_image_not_of_the_file(tmp_path):
    pixels = draw(size=(360, 480))
    png = read(tmp_path / "a.png", pixels)
    for name, change, options in (
        ("a.jpg", pixels, {"quality": 60}),
        ("small.png", np.asarray(Image.fromarray(pixels).resize((240, 180))), {}),
        ("bright.png", np.minimum(pixels, 245) + 10, {}),
    ):
        assert count_differing(png, read(tmp_path / name, np.asarray(change, np.uint8), **options)) <= 8
    assert count_differing(png, read(tmp_path / "b.png", draw(1))) > 20
    assert read(tmp_path / "flat.png", np.full((9, 9, 3), 77, np.uint8)).fingerprint == 0


def test_brightness_and_colour_are_of_255(tmp_path):
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, :16] = (200, 100, 0)
    traits = read(tmp_path / "a.png", pixels)
    assert traits.colour == (100, 50, 0)
    assert traits.brightest == 100
    deep = read(tmp_path / "deep.png", np.full((4, 4), 4095, np.uint16))
    assert (deep.bits, deep.peak, deep.colour) == (16, 4095, (15, 15, 15))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK"])
def test_every_mode_has_traits(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.fromarray(draw()).convert(mode).save(path)
    assert check_image(path)[1].brightest > 0


def test_pages_and_frames_count_and_overviews_do_not(tmp_path):
    image = Image.fromarray(draw())
    for suffix in ("tif", "webp", "png"):
        image.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[image.transpose(0), image.transpose(1)])
        assert check_image(tmp_path / f"a.{suffix}")[1].num_pages == 3
    overview = image.resize((30, 20))
    overview.encoderinfo = {"tiffinfo": ImageFileDirectory_v2()}
    overview.encoderinfo["tiffinfo"][254] = 1
    image.save(tmp_path / "b.tif", save_all=True, append_images=[overview])
    assert check_image(tmp_path / "b.tif")[1].num_pages == 1
