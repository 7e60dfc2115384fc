"""AVIF, HEIF and JPEG XL are read as all other images are, and refused as they are."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

import atrous
from atrous.core.errors import DataError
from atrous.images.bands import load_bands
from atrous.images.decode import check_image, load_header, load_image, load_mask, load_mask_colours
from atrous.images.jxl_header import JXL_BOX_START, read_jxl_header
from atrous.images.samples import inspect_image, load_samples, read_stored
from atrous.images.tiff_tags import turn_upright
from drawn import encode_jxl, exif_of, save_image, save_jxl

SUFFIXES = ["avif", "heic", "jxl"]
LOSSLESS = {
    "avif": {"quality": 100, "subsampling": "4:4:4"},
    "heic": {"quality": -1, "chroma": 444, "matrix_coefficients": 0},
    "jxl": {"lossless": True},
}
PACKAGES = {"avif": "PIL.AvifImagePlugin", "heic": "pillow_heif", "jxl": "pillow_jxl.JpegXLImagePlugin"}


def draw_quarters(height: int = 40, width: int = 56) -> np.ndarray:
    """Four colours, so that each way of turning the image gives another one."""
    pixels = np.full((height, width, 3), (200, 200, 100), np.uint8)
    pixels[: height // 2, : width // 2] = 255, 0, 0
    pixels[height // 2 :, : width // 2] = 0, 255, 0
    pixels[: height // 2, width // 2 :] = 0, 0, 255
    return pixels


def require_alike(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.shape == wanted.shape
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - wanted).mean() < 8


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_they_become_rgb_of_8_bits_from_every_source(suffix, mode, tmp_path):
    path = tmp_path / f"a.{suffix}"
    image = Image.fromarray(draw_quarters()).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    save_image(path, image, **LOSSLESS[suffix])
    pixels = load_image(path)
    assert np.abs(pixels.astype(int) - np.asarray(image.convert("RGB"))).max() <= (2 if suffix == "avif" else 0)
    for source in (str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        np.testing.assert_array_equal(load_image(source), pixels)
    np.testing.assert_array_equal(load_bands(path).image, pixels)
    assert (load_header(path).height, load_header(path).width) == pixels.shape[:2]
    assert check_image(path)[0] == inspect_image(path)[0] == load_header(path)
    stored = read_stored(path)
    bands = 3 if (mode, suffix) == ("L", "avif") else len(mode)  # Pillow reads grey AVIF as colours
    assert (stored.num_bands, stored.is_photo) == (bands, True)
    assert load_samples(path).shape == (*pixels.shape[:2], bands)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_they_are_turned_upright_once(suffix, orientation, tmp_path):
    pixels, path = draw_quarters(), tmp_path / f"a.{suffix}"
    if suffix == "jxl":
        path.write_bytes(encode_jxl(pixels, orientation))
    else:
        save_image(path, pixels, exif=exif_of(orientation))
    wanted = turn_upright(pixels, orientation)
    require_alike(load_image(path), wanted)
    assert (load_header(path).height, load_header(path).width) == wanted.shape[:2]
    require_alike(load_samples(path), wanted)


def test_a_jpeg_packed_as_jpeg_xl_is_turned_as_its_exif_data_say(tmp_path):
    Image.fromarray(draw_quarters()).save(tmp_path / "a.jpg", exif=exif_of(6), quality=95)
    with Image.open(tmp_path / "a.jpg") as jpeg:
        save_jxl(tmp_path / "a.jxl", jpeg, lossless_jpeg=True)
        np.testing.assert_array_equal(load_image(tmp_path / "a.jxl"), np.asarray(ImageOps.exif_transpose(jpeg)))


def test_exif_data_do_not_turn_what_jpeg_xl_says_is_upright(tmp_path):
    save_image(tmp_path / "a.jxl", draw_quarters(), exif=exif_of(6))
    require_alike(load_image(tmp_path / "a.jxl"), draw_quarters())


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_they_are_no_masks(suffix, tmp_path):
    save_image(tmp_path / f"m.{suffix}", np.zeros((16, 16), np.uint8), **LOSSLESS[suffix])
    for load in (load_mask, load_mask_colours):
        with pytest.raises(DataError, match=rf"m\.{suffix}: the mask is an? .* image, which blurs ids") as caught:
            load(tmp_path / f"m.{suffix}")
        assert caught.value.code == "lossy-mask"


@pytest.mark.parametrize("suffix", ["avif", "heic"])
def test_a_page_of_several_is_named(suffix, tmp_path):
    if suffix == "heic":
        heif = pytest.importorskip("pillow_heif", reason="the extra `formats` is not installed")
        file = heif.HeifFile()
        for value in (0, 120, 240):
            file.add_from_pillow(Image.new("RGB", (16, 16), (value,) * 3))
        file.save(tmp_path / "a.heic", primary_index=1, quality=-1)
    else:
        pages = [Image.new("RGB", (16, 16), (value,) * 3) for value in (0, 120, 240)]
        save_image(tmp_path / "a.avif", pages[0], save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="3 pages or frames, and one image is wanted"):
        load_image(tmp_path / f"a.{suffix}")
    assert check_image(tmp_path / f"a.{suffix}")[1].num_pages == 3
    for page, value in ((1, 0), (2, 120), (3, 240)):
        assert abs(int(load_image(tmp_path / f"a.{suffix}", page)[0, 0, 0]) - value) <= 3


def test_grey_of_16_bits_is_scaled_as_that_of_other_files(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (16, 24)).astype(np.uint16)
    save_image(tmp_path / "a.jxl", values, lossless=True)
    np.testing.assert_array_equal(load_image(tmp_path / "a.jxl"), load_image(values))
    np.testing.assert_array_equal(load_samples(tmp_path / "a.jxl")[..., 0], values)


def test_of_10_bits_the_upper_8_are_kept(tmp_path):
    heif = pytest.importorskip("pillow_heif", reason="the extra `formats` is not installed")
    values = np.random.default_rng(0).integers(0, 65536, (16, 24, 3)).astype(np.uint16)
    file = heif.HeifFile()
    file.add_frombytes("RGB;16", (24, 16), values.tobytes())
    file.save(tmp_path / "a.heic", **LOSSLESS["heic"])
    np.testing.assert_array_equal(load_image(tmp_path / "a.heic"), values >> 8)


def test_floats_are_refused(tmp_path):
    save_image(tmp_path / "a.jxl", np.ones((16, 16), np.float32))
    with pytest.raises(DataError, match="32 bits per pixel, whose value range is unknown"):
        load_image(tmp_path / "a.jxl")


def test_an_animation_and_too_many_pixels_are_refused_before_a_jpeg_xl_is_decoded():
    pytest.importorskip("pillow_jxl", reason="the extra `formats` is not installed")
    size_60000 = 0 | 0b10 << 1 | 59999 << 3 | 1 << 21  # no multiple of 8; 18 bits; a square
    with pytest.raises(DataError, match="more than 178 megapixels"):
        load_image(b"\xff\x0a" + size_60000.to_bytes(8, "little"))
    animated = 0b1 | 1 << 6 | 0 << 9 | 1 << 10 | 1 << 16  # 8x8; extra fields, among them an animation
    assert read_jxl_header(b"\xff\x0a" + animated.to_bytes(8, "little")) == (8, 8, True)
    with pytest.raises(DataError, match="an animation, and one image is wanted"):
        load_image(b"\xff\x0a" + animated.to_bytes(8, "little"))


def test_the_size_of_a_jpeg_xl_is_that_of_its_decoder(tmp_path):
    for height, width in ((1, 1), (8, 16), (24, 32), (256, 264), (300, 400), (513, 3), (2, 9000), (90, 160)):
        save_image(tmp_path / "a.jxl", np.zeros((height, width), np.uint8), lossless=True)
        content = (tmp_path / "a.jxl").read_bytes()
        assert read_jxl_header(content) == (height, width, False)
        with pytest.raises(ValueError, match="truncated header"):
            read_jxl_header(content[:3])
        box = (len(content) + 8).to_bytes(4, "big") + b"jxlc" + content
        numbered = [number.to_bytes(4, "big") + content[number : number + 1] for number in range(len(content))]
        parts = [(13).to_bytes(4, "big") + b"jxlp" + part for part in numbered]
        large = (1).to_bytes(4, "big") + b"jxlc" + (len(content) + 16).to_bytes(8, "big") + content
        last = bytes(4) + b"jxlc" + content
        for boxes in (box, b"".join(parts), large, last):
            assert read_jxl_header(JXL_BOX_START + boxes) == (height, width, False)
    for boxes in (b"", (3).to_bytes(4, "big") + b"jxlc", (8).to_bytes(4, "big") + b"Exif"):
        with pytest.raises(ValueError, match=r"no image in it|a box without a size"):
            read_jxl_header(JXL_BOX_START + boxes)


@pytest.mark.parametrize("suffix", ["avif", "heic"])
def test_a_size_that_is_false_is_refused(suffix, tmp_path):
    save_image(tmp_path / f"a.{suffix}", draw_quarters())
    content = (tmp_path / f"a.{suffix}").read_bytes()
    at = content.index(b"ispe") + 8
    for side in (20_000, 2**31):
        with pytest.raises(DataError, match=r"megapixels|cannot be decoded: .*(damaged|size)"):
            load_image(content[:at] + side.to_bytes(4, "big") * 2 + content[at + 8 :])


@pytest.mark.parametrize(
    ("start", "suffix", "kind", "package"),
    [
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "heic", "a HEIC image", "pillow-heif"),
        (b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1heic", "heic", "a HEIF image", "pillow-heif"),
        (b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1avif", "avif", "an AVIF image", "pillow"),
        (b"\x00\x00\x00\x18ftypavif\x00\x00\x00\x00mif1avif", "avif", "an AVIF image", "pillow"),
        (b"\xff\x0a\xfa\x00", "jxl", "a JPEG XL image", "pillow-jxl-plugin"),
    ],
)
def test_without_its_package_a_file_is_refused_with_what_installs_it(
    start, suffix, kind, package, tmp_path, monkeypatch
):
    (tmp_path / "a.png").write_bytes(start + bytes(60))
    monkeypatch.setitem(sys.modules, PACKAGES[suffix], None)
    if suffix == "avif":
        monkeypatch.delattr("PIL.AvifImagePlugin", raising=False)
    for load in (load_image, load_mask, load_header):
        with pytest.raises(DataError, match=rf"a\.png: {kind}, which is read with the package {package}\n") as caught:
            load(tmp_path / "a.png")
        assert "-m pip install" in caught.value.hint
        assert package in caught.value.hint


def test_their_packages_are_imported_for_such_files_alone(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    code = (
        "import sys, atrous.images.decode as decode\n"
        f"decode.load_image({str(tmp_path / 'a.png')!r})\n"
        "assert not {'pillow_heif', 'pillow_jxl'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_folder_of_them_is_checked_and_read(tmp_path):
    for number, suffix in enumerate([*SUFFIXES, "jpg"]):
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir(exist_ok=True)
        save_image(tmp_path / "images" / f"{number}.{suffix}", np.roll(draw_quarters(), 7 * number, axis=1))
        mask = np.zeros((40, 56), np.uint8)
        mask[:, : 10 * (number + 1)] = 1
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
    result = atrous.check(tmp_path)
    assert [finding.code for finding in result.findings if finding.severity == "error"] == []
    assert result.num_pairs == 4
    save_image(Path(tmp_path / "masks" / "0.heic"), mask)
    (tmp_path / "masks" / "0.png").unlink()
    assert "lossy-mask" in [finding.code for finding in atrous.check(tmp_path).findings]
