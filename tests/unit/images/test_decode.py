from __future__ import annotations

import errno
import io
import re
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image

from atrous.core.errors import DataError, MachineError, UsageError
from atrous.images.decode import (
    IMAGE_SUFFIXES,
    ImageHeader,
    check_image,
    is_huge_tiff,
    load_header,
    load_image,
    load_mask,
    load_mask_colours,
)
from atrous.images.encode import read_png_text
from drawn import save_image

UPRIGHT = {  # what a viewer does for each EXIF orientation, after the standard's own table
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


@pytest.fixture
def colours() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 8, 3), dtype=np.uint8)


def save_turned(path: Path, array: np.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(array).save(path, exif=exif)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_rotation_is_applied_to_images_once_and_never_to_masks(tmp_path, colours, orientation):
    save_turned(tmp_path / "a.png", colours, orientation)
    save_turned(tmp_path / "mask.png", colours[..., 0], orientation)

    image = load_image(tmp_path / "a.png")

    np.testing.assert_array_equal(image, UPRIGHT[orientation](colours))
    np.testing.assert_array_equal(load_mask(tmp_path / "mask.png"), colours[..., 0])
    assert load_header(tmp_path / "a.png") == ImageHeader(*image.shape[:2], "RGB", orientation != 1)


def test_exif_rotation_of_16_bits(tmp_path):
    grey = np.arange(40, dtype=np.uint16).reshape(5, 8) * 257
    save_turned(tmp_path / "a.png", grey, 6)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png")[..., 0], UPRIGHT[6](grey // 257))


def save_form(path: Path, form: str) -> None:
    """Write one of the forms that an image may have on the disk."""
    generator = np.random.default_rng(2)
    colours = generator.integers(0, 256, (6, 9, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    match form:
        case "turned jpeg":
            Image.fromarray(colours).save(path, "JPEG", exif=exif)
        case "turned png":
            Image.fromarray(colours).save(path, "PNG", exif=exif)
        case "turned 16-bit grey":
            Image.fromarray(generator.integers(0, 65536, (6, 9)).astype(np.uint16)).save(path, "PNG", exif=exif)
        case "16-bit colours":
            values = generator.integers(0, 65536, (6, 9, 3)).astype(np.uint16)
            path.write_bytes(cv2.imencode(".png", values)[1].tobytes())
        case "palette":
            Image.fromarray(colours).quantize(16).save(path, "PNG", transparency=3)
        case "alpha":
            Image.fromarray(colours).convert("RGBA").save(path, "PNG")
        case _:
            Image.fromarray(colours).convert("CMYK").save(path, "TIFF")


FORMS = ["turned jpeg", "turned png", "turned 16-bit grey", "16-bit colours", "palette", "alpha", "cmyk"]


@pytest.mark.parametrize("form", FORMS)
def test_path_bytes_stream_pil_image_and_array_give_the_same_pixels(tmp_path, form):
    path = tmp_path / "image"
    save_form(path, form)
    expected = load_image(path)

    np.testing.assert_array_equal(load_image(str(path)), expected)
    np.testing.assert_array_equal(load_image(path.read_bytes()), expected)
    np.testing.assert_array_equal(load_image(io.BytesIO(path.read_bytes())), expected)
    with path.open("rb") as file:
        np.testing.assert_array_equal(load_image(file), expected)
    with Image.open(path) as image:
        before = image.size
        np.testing.assert_array_equal(load_image(image), expected)
        np.testing.assert_array_equal(load_image(image), expected)  # it was not changed
        assert image.size == before
    np.testing.assert_array_equal(load_image(expected), expected)


def test_arrays_of_16_bits_are_scaled_as_files_are(tmp_path):
    generator = np.random.default_rng(0)
    for shape in ((5, 7), (5, 7, 3)):
        values = generator.integers(0, 65536, shape).astype(np.uint16)
        cv2.imwrite(str(tmp_path / "a.png"), values[..., ::-1] if len(shape) == 3 else values)
        np.testing.assert_array_equal(load_image(values), load_image(tmp_path / "a.png"))


def test_a_stream_is_read_from_where_it_stands(tmp_path, colours):
    Image.fromarray(colours).save(tmp_path / "a.png")
    stream = io.BytesIO(b"a header of its own" + (tmp_path / "a.png").read_bytes())
    stream.seek(19)
    np.testing.assert_array_equal(load_image(stream), colours)


def test_masks_are_read_from_memory_too(tmp_path):
    ids = np.array([[0, 3, 255], [7, 3, 0]], np.uint8)
    image = Image.fromarray(ids).convert("P")
    image.putpalette(list(range(256)) * 3)
    image.save(tmp_path / "m.png")
    sources = (tmp_path / "m.png", (tmp_path / "m.png").read_bytes(), (tmp_path / "m.png").open("rb"), image, ids)
    for source in sources:
        np.testing.assert_array_equal(load_mask(source), ids)
    sources[2].close()
    with pytest.raises(UsageError, match=r"array of int64 \(2, 3\) as a mask"):
        load_mask(ids.astype(np.int64))


@pytest.mark.parametrize(
    "value",
    [3, None, np.zeros((4, 5, 3)), np.zeros((4, 5, 2), np.uint8), np.zeros((0, 5, 3), np.uint8), np.zeros(5, np.uint8)],
    ids=repr,
)
def test_other_objects_and_arrays_are_refused_in_words(value):
    with pytest.raises(UsageError, match=r"cannot read an (array|object) of .* as an image"):
        load_image(value)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path, colours, mode):
    image = Image.fromarray(colours).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    found = load_image(path)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.asarray(image.convert("RGB")))


def test_alpha_is_dropped_not_blended(tmp_path, colours):
    alpha = np.zeros((5, 8, 1), np.uint8)
    Image.fromarray(np.concatenate([colours, alpha], axis=2)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(load_image(tmp_path / "a.png"), colours)


def test_palette_with_transparency_reads_without_a_warning(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "a.png", transparency=b"\x00\x80")
    np.testing.assert_array_equal(load_image(tmp_path / "a.png")[0], [[10, 20, 30], [40, 50, 60]])


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_are_scaled_not_clipped(tmp_path, suffix, channels):
    values = np.random.default_rng(1).integers(0, 65536, (9, 7, channels)).astype(np.uint16)
    values[0, :2] = [[0], [65535]]
    cv2.imwrite(str(tmp_path / f"a.{suffix}"), values)

    image = load_image(tmp_path / f"a.{suffix}").astype(float)

    wanted = values[..., ::-1] / 257.0
    assert np.abs(image - wanted).max() <= 1.0
    assert image[0, 0].max() == 0
    assert image[0, 1].min() == 255


def test_multi_image_jpeg_of_a_phone(tmp_path, colours):
    first = Image.fromarray(np.full((16, 16, 3), 200, np.uint8))
    first.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[Image.new("RGB", (8, 8))])
    np.testing.assert_allclose(load_image(tmp_path / "a.jpg"), np.full((16, 16, 3), 200), atol=1)


def test_floats_are_refused(tmp_path):
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif.*range"):
        load_image(tmp_path / "a.tif")


def test_masks_of_16_bits_keep_their_ids(tmp_path):
    ids = np.array([[0, 256, 65535], [70, 1000, 3]], np.uint16)
    cv2.imwrite(str(tmp_path / "m.png"), ids)
    np.testing.assert_array_equal(load_mask(tmp_path / "m.png"), ids)


def test_two_colour_masks_are_0_and_1(tmp_path):
    ids = np.array([[0, 1], [1, 1]], np.uint8)
    Image.fromarray(ids > 0).save(tmp_path / "m.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "m.png"), ids)


@pytest.mark.parametrize("channels", [3, 4])
def test_grey_saved_as_colour_is_its_grey_value(tmp_path, channels):
    ids = np.array([[0, 9], [4, 9]], np.uint8)
    array = np.stack([ids] * 3 + [np.full_like(ids, 255)] * (channels - 3), axis=-1)
    Image.fromarray(array).save(tmp_path / "m.png")
    np.testing.assert_array_equal(load_mask(tmp_path / "m.png"), ids)


def test_colour_masks_are_refused_with_file_and_colours(tmp_path):
    array = np.zeros((4, 4, 3), np.uint8)
    array[0] = (128, 0, 0)
    Image.fromarray(array).save(tmp_path / "m.png")
    with pytest.raises(DataError, match=r"m\.png: a mask in colour, 2 colours: .*\(128, 0, 0\) 4 pixels"):
        load_mask(tmp_path / "m.png")


def test_colour_masks_of_16_bits_are_refused(tmp_path):
    cv2.imwrite(str(tmp_path / "m.png"), np.full((2, 2, 3), 300, np.uint16))
    with pytest.raises(DataError, match=r"m\.png"):
        load_mask(tmp_path / "m.png")


def test_jpeg_masks_are_refused(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "m.jpg")
    with pytest.raises(DataError, match=r"m\.jpg.*JPEG") as caught:
        load_mask(tmp_path / "m.jpg")
    assert "PNG" in caught.value.hint


def test_missing_file():
    with pytest.raises(DataError, match=r"nowhere\.png: no such file"):
        load_image(Path("nowhere.png"))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp", "heic", "avif", "jxl"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7])
def test_truncated_files_are_named(tmp_path, suffix, share):
    path = tmp_path / f"broken.{suffix}"
    save_image(path, np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    for load in (load_image, load_mask):
        with pytest.raises(DataError, match=r"broken\."):
            load(path)
        with pytest.raises(DataError, match="image in memory"):
            load(path.read_bytes())


@pytest.mark.parametrize(
    "suffix", ["png", "jpg", "progressive.jpg", "tif", "lzw.tif", "webp", "bmp", "ppm", "heic", "avif", "jxl"]
)
def test_what_the_check_accepts_can_be_loaded_and_nothing_else(tmp_path, suffix):
    options = {"progressive.jpg": {"progressive": True}, "lzw.tif": {"compression": "tiff_lzw"}}.get(suffix, {})
    path = tmp_path / f"a.{suffix}"
    save_image(path, np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), **options)
    whole = path.read_bytes()
    half = len(whole) // 2
    assert check_image(path)[0] == load_header(path)
    for content in (
        *(whole[:end] for end in (0, half, -20, -1)),
        whole[:half] + bytes(len(whole) - half),
        whole[:half] + bytes([whole[half] ^ 255]) + whole[half + 1 :],
    ):
        path.write_bytes(content)
        found = []
        for read in (check_image, load_image):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of Pillow, about damaged metadata
                try:
                    read(path)
                except DataError as error:
                    found.append(error.message)
                else:
                    found.append("")
        assert bool(found[0]) == bool(found[1]), found


def test_text_is_no_image(tmp_path):
    (tmp_path / "a.png").write_text("no image")
    with pytest.raises(DataError, match=r"a\.png: not an image"):
        load_image(tmp_path / "a.png")


def test_decompression_bomb_is_refused_before_decoding(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )
    (tmp_path / "bomb.png").write_bytes(data)
    for load in (load_image, load_mask, load_header):
        with pytest.raises(DataError, match=r"bomb\.png: more than 178 megapixels"):
            load(tmp_path / "bomb.png")
        with pytest.raises(DataError, match="more than 178 megapixels"):
            load(data)


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_too_many_pixels_are_named_in_every_format(tmp_path, monkeypatch, colours, suffix):
    path = tmp_path / f"large{suffix}"
    save_image(path, colours[..., 0] if suffix == ".pgm" else colours)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", colours[..., 0].size // 2 - 1)
    for load in (load_image, load_mask, load_header):
        for source in (path, path.read_bytes()):
            with pytest.raises(DataError, match="more than 0 megapixels") as caught:
                load(source)
            assert "`atrous predict` labels a TIFF of this size as it is" in caught.value.hint


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_an_image_of_many_pixels_that_is_read_causes_no_warning(tmp_path, monkeypatch, colours, suffix):
    path = tmp_path / f"large{suffix}"
    save_image(path, colours[..., 0] if suffix == ".pgm" else colours)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", colours[..., 0].size // 2 + 1)
    sources = (path, path.read_bytes(), io.BytesIO(path.read_bytes()))
    for read in (lambda: [load_image(source).shape for source in sources], lambda: [read_png_text(path)]):
        with warnings.catch_warnings(record=True) as shown:
            warnings.resetwarnings()
            assert read() in ([colours.shape] * 3, [""])
        assert shown == []


def test_a_filter_of_the_caller_for_large_images_holds(tmp_path, monkeypatch, colours):
    Image.fromarray(colours).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", colours[..., 0].size - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with pytest.raises(DataError, match="exceeds limit"):
            load_image(tmp_path / "a.png")


def test_a_huge_tiff_is_known_by_its_head(tmp_path, colours, monkeypatch):
    Image.fromarray(colours).save(tmp_path / "a.tif")
    Image.fromarray(colours).save(tmp_path / "big.TIFF", big_tiff=True)
    Image.fromarray(colours).save(tmp_path / "a.png")
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: int.from_bytes(whole[4:8], "little") + 4])
    (tmp_path / "text.tif").write_text("no image")
    names = ["a.tif", "big.TIFF", "a.png", "cut.tif", "text.tif", "missing.tif"]
    for largest, huge in ((39, {"a.tif", "big.TIFF"}), (40, set())):
        monkeypatch.setattr("atrous.images.decode.HUGE_PX", largest)
        assert {name for name in names if is_huge_tiff(tmp_path / name)} == huge


@pytest.mark.parametrize("load", [load_image, load_mask, load_header, check_image])
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "out of memory"),
        (OSError("out of memory error when reading image file"), "out of memory"),  # Pillow's decoders
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory"),
        (OSError(errno.EMFILE, "Too many open files"), "too many open files"),
    ],
)
def test_what_the_machine_lacks_is_no_fault_of_the_file(load, error, message):
    class Large(io.BytesIO):
        name = "large.png"

        def read(self, size=-1):
            raise error

    with pytest.raises(MachineError, match=rf"large\.png: {message}") as caught:
        load(Large())
    assert not re.search("(?i)replace|remove", caught.value.hint)


def test_a_folder_is_no_broken_image(tmp_path):
    with pytest.raises(DataError, match="cannot be read: Is a directory") as caught:
        load_image(tmp_path)
    assert "Replace" not in caught.value.hint


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((4, 5, 3), np.float32), "a TIFF of 3 bands of 32-bit float numbers"),
        (np.zeros((4, 5, 5), np.uint8), "a TIFF of 5 bands of 8-bit unsigned numbers"),
        (np.zeros((4, 5, 6), np.int16), "a TIFF of 6 bands of 16-bit signed numbers"),
        (np.zeros((4, 5), np.complex64), "a TIFF of 1 band of 64-bit complex float numbers"),
    ],
)
def test_a_tiff_that_is_not_read_is_described(tmp_path, pixels, words):
    kind = "rgb" if pixels.shape[2:] == (3,) else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric=kind, planarconfig="contig" if pixels.ndim == 3 else None)
    with pytest.raises(DataError, match=rf"a\.tif: {words}, which is not read"):
        load_image(tmp_path / "a.tif")


def test_a_cut_tiff_is_an_error_of_its_own(tmp_path):
    for size in (4, 8, 20, 60):
        pixels = np.zeros((4, 5, 5), np.uint8)
        tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", planarconfig="contig")
        (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:size])
        with pytest.raises(DataError, match=r"a\.tif: "):
            load_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"GIF89a", "a GIF image"),
        (b"<svg/>", "an SVG drawing"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a pointer of Git LFS"),
        (bytes(128) + b"DICM", "a DICOM image"),
    ],
)
def test_formats_that_are_not_read_are_named(start, name, tmp_path):
    (tmp_path / "a.png").write_bytes(start + bytes(60))
    for load in (load_image, load_mask, load_header):
        with pytest.raises(DataError, match=rf"a\.png: {name}.*, which is not read") as caught:
            load(tmp_path / "a.png")
        assert "Save it as PNG or JPEG" in caught.value.hint


@pytest.mark.parametrize("suffix", ["tif", "png", "webp"])
def test_of_several_pages_none_is_taken_in_silence(suffix, tmp_path):
    pages = [Image.fromarray(np.full((4, 5), value, np.uint8)) for value in (0, 90, 200)]
    options = {"lossless": True} if suffix == "webp" else {}
    pages[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=pages[1:], **options)
    for load in (load_image, load_mask, load_mask_colours):
        with pytest.raises(DataError, match=rf"a\.{suffix}: 3 pages or frames, and one (image|mask) is wanted"):
            load(tmp_path / f"a.{suffix}")
    with Image.open(tmp_path / f"a.{suffix}") as image:
        image.seek(1)
        assert load_image(image)[0, 0].tolist() == [90, 90, 90]
        assert image.tell() == 1


def test_overviews_of_a_tiff_are_no_pages(tmp_path):
    pixels = np.arange(48, dtype=np.uint8).reshape(6, 8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(pixels, photometric="minisblack")
        file.write(pixels[::2, ::2].copy(), photometric="minisblack", subfiletype=1)
    np.testing.assert_array_equal(load_mask(tmp_path / "a.tif"), pixels)
    np.testing.assert_array_equal(load_image(tmp_path / "a.tif")[..., 0], pixels)
