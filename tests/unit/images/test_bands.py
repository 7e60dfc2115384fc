from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from atrous.core.errors import DataError, UsageError
from atrous.core.inputs import PHOTO, ImageForm
from atrous.images.bands import choose_form, load_bands, show_bands, stretch_bands
from atrous.images.decode import load_image
from atrous.images.samples import read_stored


def draw(bands: int, dtype: str, *, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((9, 11, bands)) * 200).astype(dtype)


def encode_tiff(
    pixels: np.ndarray, *, nodata: str = "", planar: str = "contig", kind: str = "minisblack", **options: object
) -> bytes:
    file = io.BytesIO()
    tags = [(42113, "s", 0, nodata, True)] if nodata else []
    stored = pixels if planar == "contig" else np.moveaxis(pixels, 2, 0)
    tifffile.imwrite(file, stored, photometric=kind, planarconfig=planar, extratags=tags, metadata=None, **options)
    return file.getvalue()


def encode_png(pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1])


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("bands", [2, 3, 5, 6])
def test_a_tiff_keeps_its_bands_and_values(bands, dtype, planar):
    pixels = draw(bands, dtype)
    source = encode_tiff(pixels, planar=planar)
    form = choose_form(read_stored(source))
    assert form.dtype == ("float32" if dtype == "int16" else dtype)
    image, is_missing = load_bands(source, form)
    np.testing.assert_array_equal(image, pixels)
    assert (image.dtype, is_missing) == (form.dtype, None)


@pytest.mark.parametrize("suffix", ["JPEG", "PNG", "TIFF"])
def test_photos_are_read_as_before(suffix):
    file = io.BytesIO()
    Image.fromarray(draw(3, "uint8")).save(file, suffix)
    assert choose_form(read_stored(file.getvalue())) == PHOTO
    np.testing.assert_array_equal(load_bands(file.getvalue(), PHOTO).image, load_image(file.getvalue()))


@pytest.mark.parametrize("nodata", ["", "7"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_near_infrared_beside_rgb_is_not_lost(dtype, nodata):
    pixels = draw(4, dtype)
    source = encode_tiff(pixels, kind="rgb", nodata=nodata, extrasamples=[0])
    form = choose_form(read_stored(source))
    assert (form.bands, form.dtype) == ((0, 1, 2, 3), dtype)
    np.testing.assert_array_equal(
        load_bands(source, form).image, np.where(pixels == 7, 0, pixels) if nodata else pixels
    )
    seen = load_bands(source, PHOTO).image  # a model of photos takes the three that it knows
    expected = pixels[..., :3] >> (8 if dtype == "uint16" else 0)
    np.testing.assert_array_equal(seen, np.where(pixels[..., :3] == 7, 0, expected) if nodata else expected)


def test_twelve_bits_in_sixteen_keep_their_levels():
    pixels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    source = encode_png(pixels)
    form = choose_form(read_stored(source), value_range=(0, 4095))
    np.testing.assert_array_equal(load_bands(source, form).image[..., 0], pixels)
    assert len(np.unique(load_image(source))) < 20
    assert choose_form(read_stored(source)) == PHOTO


def test_a_png_in_colour_of_16_bits_keeps_its_levels():
    pixels = draw(3, "uint16") * 300
    source = encode_png(pixels[..., ::-1])
    form = choose_form(read_stored(source), "rgb", (0, 60_000))
    np.testing.assert_array_equal(load_bands(source, form).image, pixels)


def test_bands_are_taken_in_the_order_that_is_named():
    pixels = draw(5, "uint16")
    source = encode_tiff(pixels)
    form = choose_form(read_stored(source), (3, 2, 1, 5))
    np.testing.assert_array_equal(load_bands(source, form).image, pixels[..., [2, 1, 0, 4]])
    with pytest.raises(DataError, match=r"5 bands, and data.channels names 6"):
        choose_form(read_stored(source), (1, 6))


def test_grey_is_made_of_colours_as_pillow_does():
    pixels = draw(3, "uint8")
    source = encode_png(pixels[..., ::-1])
    grey = load_bands(source, choose_form(read_stored(source), "grey")).image
    np.testing.assert_array_equal(grey[..., 0], np.asarray(Image.fromarray(pixels).convert("L")))


def test_pixels_without_data_are_found_and_filled():
    pixels = draw(4, "uint16") + np.uint16(100)
    pixels[:3] = 7
    pixels[5, 5, 1] = 7  # one band of a pixel that has data
    source = encode_tiff(pixels, nodata="7")
    image, is_missing = load_bands(source, choose_form(read_stored(source), value_range=(50, 400)))
    expected = np.where(pixels == 7, 50, pixels)
    np.testing.assert_array_equal(image, expected)
    np.testing.assert_array_equal(is_missing, np.arange(9)[:, None].repeat(11, axis=1) < 3)


def test_no_finite_number_is_no_data():
    pixels = draw(2, "float32")
    pixels[0], pixels[1, 0, 0] = np.nan, np.inf
    source = encode_tiff(pixels)
    form = choose_form(read_stored(source))
    for given in (source, pixels):
        image, is_missing = load_bands(given, form)
        assert np.isfinite(image).all()
        assert is_missing is not None
        assert is_missing.sum() == 11


def test_a_photo_with_a_nodata_value():
    pixels = draw(3, "uint8") + np.uint8(1)
    pixels[2:4] = 0
    image, is_missing = load_bands(encode_tiff(pixels, nodata="0", kind="rgb"), PHOTO)
    np.testing.assert_array_equal(image, pixels)
    assert is_missing is not None
    assert is_missing.sum() == 22


@pytest.mark.parametrize(
    ("bands", "dtype", "form", "words"),
    [
        (6, "uint16", PHOTO, "has 6 bands of uint16, and RGB of uint8"),
        (2, "uint16", ImageForm((0, 1, 4), "uint16", (0, 100)), "has 2 bands of uint16, and 3 bands of uint16"),
        (3, "uint8", ImageForm((0, 1, 2), "uint16", (0, 100)), "has 3 bands of uint8, and 3 bands of uint16"),
    ],
)
def test_another_form_is_refused_naming_both(bands, dtype, form, words):
    with pytest.raises(DataError, match=words):
        load_bands(encode_tiff(draw(bands, dtype)), form)


def test_an_array_of_another_form_is_refused_naming_both():
    form = ImageForm((0, 1, 2, 3), "uint16", (0, 100))
    with pytest.raises(UsageError, match=r"uint8 \(9, 11, 3\) as an image: the model takes 4 bands of uint16"):
        load_bands(draw(3, "uint8"), form)
    np.testing.assert_array_equal(load_bands(draw(4, "uint16"), form).image, draw(4, "uint16"))


def test_a_page_is_read_if_it_is_named():
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for seed in (0, 1):
            writer.write(draw(5, "uint16", seed=seed), photometric="minisblack", planarconfig="contig", metadata=None)
    with pytest.raises(DataError, match="2 pages") as caught:
        read_stored(file.getvalue())
    assert caught.value.code == "multi-page-image"
    form = choose_form(read_stored(file.getvalue(), 2), page=2)
    np.testing.assert_array_equal(load_bands(file.getvalue(), form).image, draw(5, "uint16", seed=1))
    with pytest.raises(DataError, match="page 3 is wanted"):
        read_stored(file.getvalue(), 3)


def test_people_see_the_first_three_bands_within_the_range():
    form = ImageForm((0, 1, 2, 3), "uint16", (100.0, 300.0))
    image = np.array([[[100, 200, 300, 9], [0, 65535, 150, 9]]], np.uint16)
    np.testing.assert_array_equal(show_bands(image, form), [[[0, 128, 255], [0, 255, 64]]])


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_images_that_use_little_of_their_range_are_seen(dtype):
    form = ImageForm((0, 1, 2), dtype, (0, 8192))
    image = np.random.default_rng(0).integers(600, 1301, (50, 60, 3)).astype(dtype)
    image[:, :20] = 0  # no data
    shown = stretch_bands(image, form)
    assert (shown[:, :20] == 0).all()
    assert np.percentile(shown[:, 20:], 5) < 20
    assert np.percentile(shown[:, 20:], 95) > 235


def test_noise_is_not_stretched_and_nothing_fails_on_flat_images():
    form = ImageForm((0,), "uint16", (0, 4096))
    noise = np.random.default_rng(0).integers(1000, 1008, (50, 60, 1)).astype(np.uint16)
    shown = stretch_bands(noise, form)
    assert 110 <= shown.min() <= shown.max() <= 145
    assert set(np.unique(stretch_bands(np.full((4, 5, 1), 9, np.uint16), form))) <= {127, 128}
    assert stretch_bands(np.zeros((4, 5, 1), np.uint16), form).max() == 0


def test_levels_that_8_bits_join_are_told_apart_in_16():
    form = ImageForm((0,), "uint16", (0, 4095))
    levels = np.arange(4096, dtype=np.uint16).reshape(64, 64, 1)
    assert [len(np.unique(show_bands(levels, form, deep=deep))) for deep in (False, True)] == [256, 4096]
    assert show_bands(levels, form, deep=True).max() == 65535


def test_a_truncated_file_is_refused():
    with pytest.raises(DataError, match=r"cannot be decoded|truncated"):
        load_bands(encode_tiff(draw(6, "uint16"))[:-400], ImageForm(tuple(range(6)), "uint16", (0, 100)))
