from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageFilter

from atrous.images.decode import load_image, load_mask
from atrous.images.plain import decode_plain_jpeg, load_bare_jpeg, load_plain_indices

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


def decode_with_pillow(content: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(content))
    return np.asarray(image.convert("RGB") if image.format == "JPEG" else image)


@pytest.mark.parametrize("options", JPEGS, ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(1, 1), (17, 40), (64, 33)])
def test_pixels_of_a_plain_jpeg_are_those_of_pillow(options, mode, size):
    content = encode(build_photo(mode, size), "JPEG", **options)
    np.testing.assert_array_equal(decode_plain_jpeg(content), decode_with_pillow(content))
    np.testing.assert_array_equal(load_bare_jpeg(content), decode_with_pillow(content))


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_other_jpegs_are_left_to_pillow(mode):
    content = encode(build_photo(mode, (40, 40)), "JPEG", progressive=mode == "RGB")
    assert load_bare_jpeg(content) is None
    assert mode == "CMYK" or decode_plain_jpeg(content) is None


def build_exif() -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    return exif.tobytes()


@pytest.mark.parametrize(
    "more",
    [{"exif": build_exif()}, {"icc_profile": b"any"}, {"xmp": b"<x tiff:Orientation='6'/>"}],
    ids=lambda more: next(iter(more)),
)
def test_a_jpeg_that_says_more_than_its_pixels_is_not_bare(more):
    content = encode(build_photo("RGB", (40, 30)), "JPEG", **more)
    assert load_bare_jpeg(content) is None
    np.testing.assert_array_equal(decode_plain_jpeg(content), decode_with_pillow(content))


def test_files_without_orientation_are_equal_however_they_are_given(tmp_path: Path):
    photo, mask = encode(build_photo("RGB", (64, 33)), "JPEG"), encode(build_mask(), "PNG")
    for content, load in ((photo, load_image), (mask, load_mask)):
        path = tmp_path / "file"
        path.write_bytes(content)
        for source in (path, str(path), content, io.BytesIO(content), Image.open(io.BytesIO(content))):
            np.testing.assert_array_equal(load(source), decode_with_pillow(content))


@pytest.mark.parametrize("load", [load_bare_jpeg, load_plain_indices])
def test_what_cannot_be_read_is_left_to_pillow(load, tmp_path: Path):
    for source in (tmp_path, tmp_path / "missing", "zero\0byte", "", b"", io.BytesIO(), None):
        assert load(source) is None


def test_large_images_are_left_to_pillow(monkeypatch: pytest.MonkeyPatch):
    contents = encode(build_photo("RGB", (20, 30)), "JPEG"), encode(build_mask((20, 30)), "PNG")
    for limit, is_left in ((600, False), (None, False), (599, True)):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert (load_bare_jpeg(contents[0]) is None) == is_left
        assert (load_plain_indices(contents[1]) is None) == is_left


@pytest.mark.parametrize("load", [load_bare_jpeg, load_plain_indices])
@pytest.mark.parametrize("part", ["header", "rest"])
def test_what_pillow_refuses_is_never_decoded_and_the_rest_is_the_same(load, part):
    """Bytes of a JPEG and of a PNG changed at random, and their ends cut off."""
    generator = np.random.default_rng(0)
    is_jpeg = load is load_bare_jpeg
    whole = encode(build_photo("RGB", (64, 64)), "JPEG") if is_jpeg else encode(build_mask(), "PNG")
    first = whole.find(b"\xff\xda" if is_jpeg else b"IDAT")
    start, stop = (2, first) if part == "header" else (first, len(whole))
    num_decoded = num_left = 0
    for number in range(600):
        content = bytearray(whole)
        for place in generator.integers(start, stop, number % 3):
            content[place] = generator.choice([0xFF, 0xD9, 0xC4, 0, generator.integers(256)])
        content = bytes(content[: generator.integers(start, stop) if number % 5 == 0 else None])
        pixels = load(content)
        try:
            wanted = decode_with_pillow(content)
        except (OSError, SyntaxError, ValueError):
            assert pixels is None
        if pixels is None:
            num_left += 1
        else:
            num_decoded += 1
            np.testing.assert_array_equal(pixels, wanted)
    assert num_decoded > 100
    assert num_left > 100


@pytest.mark.parametrize("size", [(1, 1), (40, 31), (300, 500)])
@pytest.mark.parametrize("mode", ["P", "L"])
def test_indices_are_those_of_pillow(size, mode):
    image = build_mask(size)
    rows = np.pad(np.asarray(image), ((0, 0), (1, 0)))
    content = rebuild(encode(image if mode == "P" else Image.fromarray(np.asarray(image)), "PNG"), rows.tobytes())
    np.testing.assert_array_equal(load_plain_indices(content), decode_with_pillow(content))


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
    np.testing.assert_array_equal(load_plain_indices(rebuild(whole, rows.tobytes())), mask)
    filtered = rows.copy()
    filtered[3, 0] = 2
    for content in (filtered.tobytes(), rows.tobytes()[:-1], rows.tobytes() + b"\0" * 10**6):
        assert load_plain_indices(rebuild(whole, content)) is None


@pytest.mark.parametrize("options", [{"bits": 1}, {"bits": 2}, {"bits": 4}, {"transparency": 0}], ids=str)
def test_other_pngs_are_left_to_pillow(options):
    content = encode(Image.fromarray(np.zeros((5, 8), np.uint8)).convert("P"), "PNG", **options)
    assert load_plain_indices(content) is None


def test_animations_are_left_to_pillow():
    content = encode(build_mask(), "PNG", save_all=True, append_images=[build_mask((40, 31)).rotate(180)])
    assert load_plain_indices(content) is None
