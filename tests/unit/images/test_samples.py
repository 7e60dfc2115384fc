from __future__ import annotations

import io
import struct
import sys

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from atrous.core.errors import DataError, MachineError
from atrous.images.bands import choose_form
from atrous.images.samples import find_empty, inspect_image, load_samples, read_stored

tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")

PLACE = [
    (33550, "d", 3, (10.0, 10.0, 0.0), True),
    (33922, "d", 6, (0.0, 0.0, 0.0, 500_000.0, 4_000_000.0, 0.0), True),
    (34735, "H", 16, (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633), True),
]


def draw(bands: int, dtype: str = "uint8") -> np.ndarray:
    return (np.random.default_rng(0).random((9, 11, bands)) * 200 + 1).astype(dtype)


def encode_tiff(pixels: np.ndarray, kind: str = "minisblack", *, tags=(), **options) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric=kind, planarconfig="contig", extratags=tags, metadata=None, **options)
    return file.getvalue()


def encode(image: Image.Image, suffix: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, suffix, **options)
    return file.getvalue()


def turn(content: bytes, orientation: int) -> bytes:
    """Return a TIFF of Pillow's whose orientation is another one."""
    (start,) = struct.unpack_from("<I", content, 4)
    changed = bytearray(content)
    for place in range(start + 2, len(content) - 11, 12):
        if struct.unpack_from("<HH", content, place) == (274, 3):
            struct.pack_into("<H", changed, place + 8, orientation)
            return bytes(changed)
    raise AssertionError("no orientation")


@pytest.mark.parametrize(
    ("mode", "bands", "colours", "dtype"),
    [
        ("1", 1, 1, "uint8"),
        ("L", 1, 1, "uint8"),
        ("LA", 2, 1, "uint8"),
        ("P", 4, 3, "uint8"),
        ("RGB", 3, 3, "uint8"),
        ("RGBA", 4, 3, "uint8"),
        ("I;16", 1, 1, "uint16"),
    ],
)
def test_the_header_of_a_png_tells_what_is_read(mode, bands, colours, dtype, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(encode(Image.fromarray(draw(3)).convert("L" if mode == "I;16" else "RGB").convert(mode)))
    stored, samples = read_stored(path), load_samples(path)
    assert (stored.num_bands, stored.num_colours, stored.dtype) == (bands, colours, dtype)
    assert (samples.shape, samples.dtype) == ((9, 11, bands), dtype)
    assert stored.is_photo
    assert stored.name == str(path)


@pytest.mark.parametrize("bands", [3, 4])
def test_a_png_in_colour_of_16_bits_keeps_all_of_them(bands, tmp_path):
    pixels = draw(bands, "uint16") * np.uint16(300)
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), pixels[..., [2, 1, 0, 3][:bands]])
    for source in (path, str(path), path.read_bytes()):
        stored = read_stored(source)
        assert (stored.num_bands, stored.num_colours, stored.dtype, stored.is_photo) == (bands, 3, "uint16", True)
        np.testing.assert_array_equal(load_samples(source), pixels)
    assert inspect_image(path)[1].dtype == "uint16"


@pytest.mark.parametrize(
    ("bands", "kind", "dtype", "extra", "colours", "is_photo"),
    [
        (1, "minisblack", "uint16", [], 1, True),
        (1, "minisblack", "float32", [], 1, False),
        (2, "minisblack", "uint8", [0], 2, False),
        (2, "minisblack", "uint8", [2], 1, True),
        (3, "rgb", "uint8", [], 3, True),
        (4, "rgb", "uint16", [2], 3, True),
        (4, "rgb", "uint16", [0], 4, True),
        (4, "minisblack", "uint16", [0, 0, 0], 4, False),
        (5, "rgb", "uint8", [0, 2], 4, False),
        (6, "minisblack", "int32", [0] * 5, 6, False),
    ],
)
def test_the_header_of_a_tiff_tells_what_is_read(bands, kind, dtype, extra, colours, is_photo):
    pixels = draw(bands, dtype)
    content = encode_tiff(pixels if bands > 1 else pixels[..., 0], kind, extrasamples=extra or None)
    stored = read_stored(content)
    assert (stored.num_bands, stored.num_colours, stored.dtype) == (bands, colours, dtype)
    assert stored.is_photo == is_photo
    np.testing.assert_array_equal(load_samples(content), pixels)


@pytest.mark.parametrize(("extra", "has_fourth"), [([0], True), ([1], False), ([2], False)])
def test_a_fourth_band_that_is_no_alpha_is_known(extra, has_fourth):
    stored = read_stored(encode_tiff(draw(4), "rgb", extrasamples=extra))
    assert (stored.is_photo, stored.has_fourth) == (True, has_fourth)
    assert not read_stored(encode(Image.new("CMYK", (4, 3)), "TIFF")).has_fourth


@pytest.mark.parametrize("options", [{"rowsperstrip": 3}, {"tile": (16, 16), "compression": "zlib"}])
def test_a_list_of_too_few_tiles_is_no_black_image(options):
    content = bytearray(encode_tiff(np.tile(draw(6, "uint16"), (3, 3, 1)), **options))
    at = content.index(struct.pack("<HH", 324 if "tile" in options else 273, 4))
    content[at + 4 : at + 8] = struct.pack("<I", 1)
    with pytest.raises(DataError):
        load_samples(bytes(content))


def test_a_palette_becomes_its_colours():
    image = Image.fromarray(draw(3)).quantize(8)
    for content in (encode(image), encode(image, "TIFF")):
        assert read_stored(content).num_colours == 3
        np.testing.assert_array_equal(load_samples(content)[..., :3], np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_tiff_is_upright_as_pillow_shows_it(orientation):
    content = turn(encode(Image.fromarray(draw(3)), "TIFF", tiffinfo={274: 1}), orientation)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    np.testing.assert_array_equal(load_samples(content), expected)


@pytest.mark.parametrize(
    ("values", "nodata", "expected"),
    [
        (np.array([0, 7, 255], np.uint8), 7.0, [False, True, False]),
        (np.array([0, 7, 255], np.uint8), -1.0, [False] * 3),
        (np.array([0, 7, 255], np.uint8), 256.0, [False] * 3),
        (np.array([0, 7, 255], np.uint8), 7.5, [False] * 3),
        (np.array([0, 7, 255], np.uint8), float("nan"), [False] * 3),
        (np.array([0, 7, 255], np.uint8), float("inf"), [False] * 3),
        (np.array([-9999, 7, 0], np.int16), -9999.0, [True, False, False]),
        (np.array([np.nan, np.inf, -np.inf, 1], np.float32), None, [True, True, True, False]),
        (np.array([-3.4028234663852886e38, 1], np.float32), -3.40282346638529e38, [True, False]),
        (np.array([0.1, 1], np.float32), 0.1, [True, False]),
        (np.array([1, 2], np.uint16), None, [False, False]),
    ],
)
def test_what_is_no_data(values, nodata, expected):
    np.testing.assert_array_equal(find_empty(values, nodata), expected)


def test_traits_tell_bands_values_missing_pixels_and_the_place(tmp_path):
    pixels = np.full((10, 10, 5), 100, np.uint16)
    pixels[5:] = np.array([200, 300, 400, 500, 600], np.uint16)
    pixels[:2] = 9
    path = tmp_path / "a.tif"
    path.write_bytes(encode_tiff(pixels, tags=[*PLACE, (42113, "s", 0, "9", True)]))
    for content in (None, path.read_bytes()):
        header, traits = inspect_image(path, content=content)
        assert (header.height, header.width) == (10, 10)
        assert (traits.num_bands, traits.num_colours, traits.dtype, traits.bits) == (5, 5, "uint16", 16)
        assert (traits.peak, traits.missing, traits.is_photo) == (600, pytest.approx(0.2), False)
        assert traits.values == tuple((100.0, high) for high in (200.0, 300.0, 400.0, 500.0, 600.0))
        assert traits.place == (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_000_000.0, 32633.0)


def test_an_image_without_any_data_has_traits(tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(encode_tiff(np.full((4, 5, 2), np.nan, np.float32)))
    traits = inspect_image(path)[1]
    assert (traits.missing, traits.peak, traits.values) == (1.0, 0.0, ((0.0, 0.0), (0.0, 0.0)))


def test_types_that_no_network_reads_are_refused():
    for dtype in ("complex64", "complex128"):
        with pytest.raises(DataError, match="complex numbers"):
            read_stored(encode_tiff(draw(2, dtype)))
    twelve = bytearray(encode_tiff(draw(1, "uint16")[..., 0]))
    twelve[twelve.index(struct.pack("<HHIH", 258, 3, 1, 16)) + 8] = 12
    with pytest.raises(DataError, match="1 band of uint12, which is not read") as caught:
        read_stored(bytes(twelve))
    assert "8, 16, 32 or 64 bits" in str(caught.value.hint)


@pytest.mark.parametrize("number", [0, 7, 60_000])
def test_more_bands_than_there_are_bytes_are_refused(number):
    content = bytearray(encode_tiff(draw(6, "uint16")))
    struct.pack_into("<H", content, content.index(struct.pack("<HHI", 277, 3, 1)) + 8, number)
    with pytest.raises(DataError, match="image in memory"):
        load_samples(bytes(content))


def test_no_bands_are_refused():
    content = bytearray(encode_tiff(draw(6, "uint16")))
    struct.pack_into("<H", content, content.index(struct.pack("<HHI", 277, 3, 1)) + 8, 0)
    with pytest.raises(DataError, match="0 bands of uint16, which is not read"):
        read_stored(bytes(content))


def test_an_image_of_thousands_of_bands_needs_names():
    stored = read_stored(encode_tiff(np.zeros((2, 2, 2000), np.uint16)))
    with pytest.raises(DataError, match=r"has 2,?000 bands, and at most 1,024 are taken"):
        choose_form(stored)
    assert choose_form(stored, (1, 2000)).bands == (0, 1999)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_truncated_files_are_refused(share, tmp_path):
    content = encode_tiff(draw(6, "uint16"))
    path = tmp_path / "a.tif"
    path.write_bytes(content[: int(len(content) * share)])
    for read in (load_samples, inspect_image):
        with pytest.raises(DataError, match=r"a\.tif"):
            read(path)
    with pytest.raises(DataError):
        load_samples("a\0.tif")


def test_without_tifffile_the_package_is_named(monkeypatch):
    content = encode_tiff(draw(5))
    monkeypatch.delitem(sys.modules, "atrous.images.tiff", raising=False)
    monkeypatch.setitem(sys.modules, "tifffile", None)  # what Python says of a package that is not installed
    assert read_stored(content).num_bands == 5
    with pytest.raises(MachineError, match="need the package tifffile"):
        load_samples(content)
