from __future__ import annotations

import io
import zlib

import numpy as np
import pytest

from atrous.core.errors import DataError
from atrous.core.inputs import PHOTO
from atrous.images.bands import choose_form, load_bands
from atrous.images.decode import check_image, load_image, load_mask, load_stored_mask
from atrous.images.samples import inspect_image, load_samples, read_stored

tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")

MASK_DTYPES = ["int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64"]
KINDS = [("<", False), (">", False), ("<", True), (">", True)]


def encode(pixels: np.ndarray, kind: str = "minisblack", *, byteorder: str = "<", bigtiff: bool = False, **options):
    file = io.BytesIO()
    with tifffile.TiffWriter(file, byteorder=byteorder, bigtiff=bigtiff) as writer:
        writer.write(pixels, photometric=kind, metadata=None, **options)
    return file.getvalue()


@pytest.mark.parametrize(("byteorder", "bigtiff"), KINDS)
@pytest.mark.parametrize("compression", [None, "zlib", "packbits", "lzma"])
@pytest.mark.parametrize("dtype", MASK_DTYPES)
def test_masks_of_any_numbers_are_read_as_they_were_saved(dtype, compression, byteorder, bigtiff, tmp_path):
    mask = np.random.default_rng(0).integers(0, 9, (20, 33)).astype(dtype)
    if dtype[0] != "u":
        mask[3:5] = -2
    layout = {"tile": (16, 16)} if compression else {"rowsperstrip": 7}
    path = tmp_path / "a.tif"
    path.write_bytes(encode(mask, byteorder=byteorder, bigtiff=bigtiff, compression=compression, **layout))
    for source in (path, path.read_bytes()):
        np.testing.assert_array_equal(load_mask(source), mask)
    np.testing.assert_array_equal(load_stored_mask(path).values, mask)


@pytest.mark.parametrize("layout", ["strips", "tiles"])
def test_signed_masks_are_not_joined_numbers(layout, tmp_path):
    mask = np.arange(-300, 340, dtype=np.int16).reshape(20, 32)
    np.testing.assert_array_equal(load_mask(encode(mask, tile=(16, 16) if layout == "tiles" else None)), mask)


@pytest.mark.parametrize(("byteorder", "bigtiff"), KINDS)
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_photos_of_any_layout_are_read(dtype, planar, byteorder, bigtiff, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 2 ** (8 * np.dtype(dtype).itemsize), (20, 33, 3)).astype(dtype)
    stored = np.moveaxis(pixels, 2, 0) if planar == "separate" else pixels
    path = tmp_path / "a.tif"
    path.write_bytes(
        encode(stored, "rgb", byteorder=byteorder, bigtiff=bigtiff, planarconfig=planar, compression="zlib")
    )
    expected = (pixels >> 8 if dtype == "uint16" else pixels).astype(np.uint8)
    np.testing.assert_array_equal(load_image(path), expected)
    np.testing.assert_array_equal(load_bands(path, PHOTO).image, expected)
    header, traits = inspect_image(path)
    assert (header.height, header.width, traits.num_pages) == (20, 33, 1)
    mean = expected.reshape(-1, 3).mean(axis=0)
    np.testing.assert_allclose(traits.colour, mean, atol=2)


def test_white_is_zero_is_seen_by_images_and_not_by_masks():
    pixels = np.arange(12, dtype=np.uint16).reshape(3, 4) * 257
    content = encode(pixels, "miniswhite", byteorder=">", bigtiff=True)
    np.testing.assert_array_equal(load_image(content)[..., 0], 255 - pixels // 257)
    np.testing.assert_array_equal(load_mask(content), pixels)
    assert check_image(content)[1].peak == 65535


def test_several_pages_are_refused_where_one_is_wanted():
    file = io.BytesIO()
    with tifffile.TiffWriter(file, byteorder=">", bigtiff=True) as writer:
        for number in (1, 2):
            writer.write(np.full((4, 5), number, np.int16), photometric="minisblack", metadata=None)
            writer.write(np.full((4, 5), number, np.uint8), photometric="minisblack", metadata=None)
    for read, kind in ((load_mask, "mask"), (load_image, "image")):
        with pytest.raises(DataError, match=f"4 pages or frames, and one {kind} is wanted"):
            read(file.getvalue())
    assert (load_image(file.getvalue(), 4) == 2).all()


def test_masks_with_losses_or_fractions_are_refused():
    with pytest.raises(DataError, match="compressed with losses") as caught:
        load_mask(encode(np.zeros((16, 16), np.uint8), byteorder=">", bigtiff=True, compression="jpeg"))
    assert caught.value.code == "lossy-mask"
    with pytest.raises(DataError, match=r"floats that are not whole, such as 0\.5"):
        load_mask(encode(np.full((3, 3), 0.5)))


@pytest.mark.parametrize(
    ("dtype", "nodata", "fill"),
    [("int16", "32767", 32767), ("int8", "7", 7), ("uint8", "300", 0), ("float32", "-3.4028234663852886e+38", None)],
)
def test_tiles_that_are_not_stored_hold_the_nodata_value(dtype, nodata, fill, tmp_path):
    tags = [(42113, "s", 0, nodata, True)]
    content = bytearray(encode(np.ones((32, 32), dtype), tile=(16, 16), extratags=tags))
    with tifffile.TiffFile(io.BytesIO(bytes(content))) as file:
        for code in ("TileOffsets", "TileByteCounts"):
            tag = file.pages[0].tags[code]
            content[tag.valueoffset : tag.valueoffset + tag.valuebytecount // 4] = bytes(tag.valuebytecount // 4)
    samples = load_samples(bytes(content))[..., 0]
    assert (samples[16:] == 1).all()
    assert (samples[:16, :16] == (np.float32(float(nodata)) if fill is None else fill)).all()
    if fill != 0:
        is_missing = load_bands(bytes(content), choose_form(read_stored(bytes(content)), value_range=(0, 9))).is_missing
        assert is_missing is not None
        assert is_missing[:16, :16].all()
        assert not is_missing[16:].any()


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize(("kind", "bands"), [("rgb", 3), ("minisblack", 1)])
def test_photos_without_some_of_their_tiles_are_read(kind, bands, compression, tmp_path):
    tile = np.full((16, 16, bands), 9, np.uint8)
    stored = tile.tobytes() if compression is None else zlib.compress(tile.tobytes())
    path, options = tmp_path / "a.tif", {"shape": (32, 32, bands) if bands > 1 else (32, 32), "dtype": np.uint8}
    tifffile.imwrite(
        path, iter([stored, b"", b"", b""]), **options, tile=(16, 16), photometric=kind, metadata=None,
        compression=compression,
    )  # fmt: skip
    expected = np.zeros((32, 32, 3), np.uint8)
    expected[:16, :16] = 9
    np.testing.assert_array_equal(load_image(path), expected)
    np.testing.assert_array_equal(load_bands(path, PHOTO).image, expected)
    assert inspect_image(path)[0].height == 32
    if bands == 1:
        np.testing.assert_array_equal(load_mask(path), expected[..., 0])


def test_compression_that_loses_missing_values_is_refused():
    imagecodecs = pytest.importorskip("imagecodecs", reason="imagecodecs is not installed")
    if not imagecodecs.LERC.available:
        pytest.skip("imagecodecs lacks LERC")
    with pytest.raises(DataError, match="compression LERC cannot"):
        load_samples(encode(np.ones((16, 16), np.float32), compression="lerc"))
