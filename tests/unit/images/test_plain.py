from __future__ import annotations

import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFilter

from atrous.images.plain import decode_plain_jpeg, inflate_palette

JPEGS = [
    {"quality": quality, "subsampling": subsampling, **more}
    for quality, subsampling in ((30, 0), (75, 1), (95, 2))
    for more in ({}, {"optimize": True}, {"restart_marker_blocks": 2}, {"comment": b"\xff\xda"})
]


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def build_photo(mode: str, size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(1)).convert(mode)


def build_mask(size: tuple[int, int] = (40, 31)) -> Image.Image:
    mask = Image.fromarray(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)).convert("P")
    mask.putpalette(list(range(256)) * 3)
    return mask


@pytest.mark.parametrize("options", JPEGS, ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(1, 1), (17, 40), (64, 33)])
def test_pixels_of_a_plain_jpeg_are_those_of_pillow(options, mode, size):
    content = encode(build_photo(mode, size), "JPEG", **options)
    pixels = decode_plain_jpeg(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))


@pytest.mark.parametrize(("mode", "options"), [("RGB", {"progressive": True}), ("CMYK", {})])
def test_other_jpegs_are_left_to_pillow(mode, options):
    content = encode(build_photo(mode, (40, 40)), "JPEG", **options)
    assert decode_plain_jpeg(Image.open(io.BytesIO(content))) is None


def test_what_pillow_refuses_is_never_decoded_and_the_rest_is_the_same():
    """Bytes of a JPEG and of a PNG changed at random, and their ends cut off."""
    generator = np.random.default_rng(0)
    photo, mask = encode(build_photo("RGB", (64, 64)), "JPEG"), encode(build_mask(), "PNG")
    num_decoded = num_refused = 0
    for whole, decode in ((photo, decode_plain_jpeg), (mask, inflate_palette)):
        first = whole.find(b"\xff\xda") if decode is decode_plain_jpeg else whole.find(b"IDAT")
        for number in range(300):
            content = bytearray(whole)
            for place in generator.integers(first - 10 * (number % 2), len(whole), number % 3):
                content[place] = generator.choice([0xFF, 0xD9, 0xC4, 0, generator.integers(256)])
            content = bytes(content[: generator.integers(first, len(whole)) if number % 5 == 0 else None])
            try:
                opened = Image.open(io.BytesIO(content))
            except OSError:
                continue
            pixels = decode(opened)
            try:
                wanted = Image.open(io.BytesIO(content))
                wanted.load()
            except (OSError, SyntaxError):
                assert pixels is None
                num_refused += 1
                continue
            if pixels is not None:
                num_decoded += 1
                np.testing.assert_array_equal(
                    pixels, np.asarray(wanted.convert("RGB") if decode is decode_plain_jpeg else wanted)
                )
    assert num_decoded > 100
    assert num_refused > 100


@pytest.mark.parametrize("size", [(1, 1), (40, 31), (300, 500)])
def test_indices_of_a_palette_are_those_of_pillow(size):
    content = encode(build_mask(size), "PNG")
    indices = inflate_palette(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(indices, np.asarray(Image.open(io.BytesIO(content))))


def rebuild(whole: bytes, rows: bytes) -> bytes:
    """Return a PNG with other rows, split into two chunks."""
    place = whole.index(b"IDAT") - 4
    packed = zlib.compress(rows)
    chunks = b"".join(
        len(part).to_bytes(4, "big") + b"IDAT" + part + zlib.crc32(b"IDAT" + part).to_bytes(4, "big")
        for part in (packed[:7], packed[7:])
    )
    return whole[:place] + chunks + whole[whole.index(b"IEND") - 4 :]


def test_rows_with_filters_or_of_another_number_are_left_to_pillow():
    mask = build_mask()
    whole, rows = encode(mask, "PNG"), np.pad(np.asarray(mask), ((0, 0), (1, 0)))
    np.testing.assert_array_equal(inflate_palette(Image.open(io.BytesIO(rebuild(whole, rows.tobytes())))), mask)
    filtered = rows.copy()
    filtered[3, 0] = 2
    for content in (filtered.tobytes(), rows.tobytes()[:-1], rows.tobytes() + b"\0" * 10**6):
        assert inflate_palette(Image.open(io.BytesIO(rebuild(whole, content)))) is None


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palettes_of_fewer_bits_are_left_to_pillow(bits):
    content = encode(Image.fromarray(np.zeros((5, 8), np.uint8)).convert("P"), "PNG", bits=bits)
    assert inflate_palette(Image.open(io.BytesIO(content))) is None
