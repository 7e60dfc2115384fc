"""Masks of every depth: what is stored counts, which the tests write bit by bit."""

from __future__ import annotations

import re
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from atrous.core.errors import DataError
from atrous.images.decode import load_mask, load_mask_colours


def draw(bits: int) -> np.ndarray:
    return np.random.default_rng(bits).integers(0, 2**bits, (6, 7)).astype(np.uint16)


def pack(ids: np.ndarray, bits: int) -> list[bytes]:
    """Return the rows of a mask with a number of bits per pixel, the most significant first."""
    rows = []
    for row in ids.tolist():
        text = "".join(format(number, f"0{bits}b") for number in row)
        text += "0" * (-len(text) % 8)
        rows.append(bytes(int(text[start : start + 8], 2) for start in range(0, len(text), 8)))
    return rows


def encode_png(ids: np.ndarray, bits: int, palette: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", ids.shape[1], ids.shape[0], bits, 3 if palette else 0, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in pack(ids, bits)))
    parts = [chunk(b"IHDR", head), chunk(b"PLTE", palette) if palette else b"", chunk(b"IDAT", pixels)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def encode_tiff(ids: np.ndarray, bits: int, photometric: int) -> bytes:
    pixels = b"".join(pack(ids, bits))
    pixels += b"\0" * (len(pixels) % 2)
    height, width = ids.shape
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric)]
    tags += [(273, 8), (277, 1), (278, height), (279, len(pixels))]
    entries = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in tags)
    return struct.pack("<2sHI", b"II", 42, 8 + len(pixels)) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("has_palette", [False, True])
def test_png_of_every_depth(bits, has_palette):
    ids = draw(bits)
    palette = np.random.default_rng(0).bytes(3 * 2**bits) if has_palette else b""
    np.testing.assert_array_equal(load_mask(encode_png(ids, bits, palette)), ids)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("photometric", [0, 1], ids=["white is zero", "black is zero"])
def test_tiff_of_every_depth_and_never_as_it_is_shown(bits, photometric):
    ids = draw(bits)
    np.testing.assert_array_equal(load_mask(encode_tiff(ids, bits, photometric)), ids)


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int16", "int32", "uint32", "float32"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_tiff_of_16_and_32_bits_signed_and_float(dtype, compression, tmp_path):
    ids = np.array([[0, 1, 120], [7, 3, 2]] if dtype[0] == "u" else [[0, 1, 120], [-9, 3, -1]], dtype)
    tifffile.imwrite(tmp_path / "m.tif", ids, photometric="minisblack", compression=compression)
    found = load_mask(tmp_path / "m.tif")
    np.testing.assert_array_equal(found, ids)
    assert found.dtype.kind in "iu"


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 2.0**40])
def test_floats_that_are_no_ids_are_refused(value, tmp_path):
    Image.fromarray(np.array([[0, value, 1]], np.float32)).save(tmp_path / "m.tif")
    with pytest.raises(
        DataError, match=rf"m\.tif: the mask holds floats that are not whole, such as {re.escape(format(value, 'g'))}"
    ):
        load_mask(tmp_path / "m.tif")


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_a_mask_in_the_alpha_channel_is_named(mode, tmp_path):
    channels = np.full((4, 5, len(mode)), 7, np.uint8)
    channels[..., -1] = np.arange(20).reshape(4, 5) % 2 * 255
    Image.fromarray(channels).save(tmp_path / "m.png")
    with pytest.raises(DataError, match=r"m\.png: the mask is in the alpha channel: the value is 7"):
        load_mask(tmp_path / "m.png")


@pytest.mark.parametrize("name", ["m.png", "m.tif"])
def test_what_blurs_ids_is_found_by_the_content_of_the_file(name, tmp_path):
    options = {"compression": "jpeg"} if name == "m.tif" else {}
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(tmp_path / name, format="TIFF" if options else "JPEG", **options)
    for load in (load_mask, load_mask_colours):
        with pytest.raises(DataError, match=r"JPEG|compressed as jpeg"):
            load(tmp_path / name)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_colours_are_those_that_a_viewer_shows(mode, tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    image = Image.fromarray(colours).convert(mode)
    image.save(tmp_path / "m.png")
    shown = np.asarray(image.convert("RGB")).astype(int)
    np.testing.assert_array_equal(load_mask_colours(tmp_path / "m.png"), shown @ [65536, 256, 1])
