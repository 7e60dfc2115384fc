from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from atrous.core.errors import DataError
from atrous.images.tiff_tags import (
    BITS,
    EXTRA_SAMPLES,
    HEIGHT,
    NODATA,
    NUM_BANDS,
    ORIENTATION,
    SAMPLE_FORMAT,
    WIDTH,
    count_tiff_pages,
    is_tiff,
    read_dtype,
    read_nodata,
    read_tags,
    turn_upright,
)

tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")


def encode(bands: int = 5, dtype: str = "uint16", *, tags=(), **options) -> bytes:
    file = io.BytesIO()
    with tifffile.TiffWriter(file, **options) as writer:
        pixels = np.arange(4 * 3 * bands).reshape(4, 3, bands).astype(dtype)
        writer.write(pixels, photometric="minisblack", planarconfig="contig", extratags=tags, metadata=None)
    return file.getvalue()


def encode_pages(*kinds: int) -> bytes:
    """Return a file with a page of each kind: 0 a page, 1 an overview, 4 a mask of another page."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for number, kind in enumerate(kinds):
            pixels, photometric = np.zeros((2 + number, 3), bool), "mask" if kind & 4 else "minisblack"
            writer.write(pixels, photometric=photometric, subfiletype=kind, metadata=None)
    return file.getvalue()


def set_tag(content: bytes, code: int, kind: int, count: int, value: int) -> bytes:
    """Return a little-endian TIFF in whose first directory a tag has another type, count and value."""
    (start,) = struct.unpack_from("<I", content, 4)
    (count_tags,) = struct.unpack_from("<H", content, start)
    changed = bytearray(content)
    for place in range(start + 2, start + 2 + 12 * count_tags, 12):
        if struct.unpack_from("<H", content, place)[0] == code:
            struct.pack_into("<HHII", changed, place, code, kind, count, value)
            return bytes(changed)
    raise AssertionError(f"no tag {code}")


@pytest.mark.parametrize(("byteorder", "bigtiff"), [("<", False), ("<", True), (">", False), (">", True)])
def test_files_of_either_order_of_bytes_and_size_of_offsets_are_read(byteorder, bigtiff, tmp_path):
    content = encode(bigtiff=bigtiff, byteorder=byteorder)
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    for source in (content, path, str(path)):
        tags = read_tags(source)
        assert is_tiff(source)
        assert (tags[HEIGHT], tags[WIDTH], tags[NUM_BANDS], read_dtype(tags)) == (4, 3, 5, "uint16")
        assert count_tiff_pages(source) == 1


def test_what_is_no_tiff(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"\x89PNG\r\n\x1a\n")
    sources = (tmp_path / "a.tif", tmp_path / "gone.tif", tmp_path, "a\0.tif", b"", b"II*", b"GIF89a", 7, None)
    assert not any(map(is_tiff, sources))


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float16", "float32", "float64"]
)
def test_the_type_is_numpys(dtype):
    assert read_dtype(read_tags(encode(2, dtype))) == dtype


def test_types_that_numpy_has_not():
    assert read_dtype({}) == "uint1"
    assert read_dtype({BITS: 4}) == "uint4"
    assert read_dtype({BITS: (64, 64), SAMPLE_FORMAT: (6, 6)}) == "complex64"


@pytest.mark.parametrize(
    ("text", "number"),
    [("-9999", -9999.0), ("0 ", 0.0), ("-3.40282e+38", -3.40282e38), ("7 7 7", 7.0), ("none", None), ("", None)],
)
def test_the_value_of_no_data(text, number):
    assert read_nodata(read_tags(encode(tags=[(NODATA, "s", 0, text, True)]))) == number
    assert read_nodata({NODATA: "nan\0"}) != read_nodata({NODATA: "nan\0"})  # as not a number does
    assert read_nodata({}) is None


def test_overviews_and_masks_are_no_pages():
    content = encode_pages(0, 1, 4, 5, 0)
    assert count_tiff_pages(content) == 2
    with pytest.raises(DataError, match="2 pages, and one image is wanted") as caught:
        read_tags(content)
    assert caught.value.code == "multi-page-image"
    assert [read_tags(content, page)[HEIGHT] for page in (1, 2)] == [2, 6]
    with pytest.raises(DataError, match="2 pages, and page 3 is wanted"):
        read_tags(content, 3)
    assert read_tags(encode_pages(1, 1))[HEIGHT] == 2  # a file that calls its only page an overview has it


def test_pages_in_a_circle_are_counted_once():
    content = bytearray(encode())
    (start,) = struct.unpack_from("<I", content, 4)
    (count_tags,) = struct.unpack_from("<H", content, start)
    struct.pack_into("<I", content, start + 2 + 12 * count_tags, start)
    assert count_tiff_pages(bytes(content)) == 1


@pytest.mark.parametrize("code", [WIDTH, HEIGHT, BITS, NUM_BANDS, SAMPLE_FORMAT, EXTRA_SAMPLES])
@pytest.mark.parametrize("kind", [2, 7, 11])
def test_numbers_that_are_texts_or_fractions_are_refused(code, kind):
    with pytest.raises(DataError, match=f"image in memory: cannot be decoded: its tag {code} holds no whole number"):
        read_tags(set_tag(encode(dtype="float32"), code, kind, 1, 70_000))


@pytest.mark.parametrize("length", [0, 3, 4, 8, 9, 40, 120])
def test_truncated_files_are_refused_by_name(length, tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(encode()[:length])
    with pytest.raises(DataError, match=r"a\.tif: cannot be decoded"):
        read_tags(path)
    with pytest.raises(DataError, match=r"gone\.tif: cannot be read: No such file"):
        read_tags(tmp_path / "gone.tif")


@pytest.mark.parametrize("orientation", range(12))
def test_images_are_turned_as_pillow_turns_them(orientation):
    pixels = np.arange(12, dtype=np.uint8).reshape(4, 3)
    image = Image.fromarray(pixels)
    image.getexif()[ORIENTATION] = orientation
    expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(turn_upright(pixels, orientation), expected)
    np.testing.assert_array_equal(turn_upright(pixels[..., None], orientation), expected[..., None])
