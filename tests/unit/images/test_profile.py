"""Colours of a profile other than sRGB are converted to sRGB; no profile breaks an image."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from atrous.core.inputs import ImageForm
from atrous.images.bands import load_bands
from atrous.images.decode import check_image, load_image, load_mask
from atrous.images.profile import is_srgb
from atrous.images.tiff import TiffImage
from drawn import COLORANTS, SRGB_CURVE, build_profile, gamma_curve, save_image


@pytest.fixture
def colours() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def compute_srgb(pixels: np.ndarray, kind: str, gamma: float | None) -> np.ndarray:
    """What the definitions of the two colour spaces make of RGB values, as floats."""
    values = pixels / 255.0
    curved = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    linear = curved if gamma is None else values**gamma
    own = np.linalg.inv(np.array(COLORANTS["srgb"]).T) @ np.array(COLORANTS[kind]).T
    linear = np.clip(linear @ own.T, 0, 1)
    return 255 * np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize(("kind", "gamma"), [("p3", None), ("adobe", 2.19921875), ("srgb", 1.0)])
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_colours_become_srgb_as_computed_from_the_definitions(kind, gamma, suffix, colours, tmp_path):
    curve = SRGB_CURVE if gamma is None else gamma_curve(gamma)
    profile, path = build_profile(kind, curve, "Linear sRGB"), tmp_path / f"a.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    save_image(path, colours, icc_profile=profile, **options)
    found = load_image(path)
    assert np.abs(found - compute_srgb(colours, kind, gamma)).max() < 2
    np.testing.assert_array_equal(load_image(path.read_bytes()), found)
    with Image.open(path) as image:
        np.testing.assert_array_equal(load_image(image), found)
    np.testing.assert_array_equal(load_bands(path).image, found)
    assert check_image(path)[1].profile == "applied"
    np.testing.assert_array_equal(load_image(path, as_stored=True), colours)


def list_srgb_profiles() -> dict[str, bytes]:
    steps = np.linspace(0, 1, 1024)
    table = np.where(steps <= 0.04045, steps / 12.92, ((steps + 0.055) / 1.055) ** 2.4)
    curve = struct.pack(">4s4xI1024H", b"curv", 1024, *(65535 * table).round().astype(int).tolist())
    return {
        "parametric": build_profile("srgb"),
        "table": build_profile("srgb", curve, "any name"),
        "of Pillow": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    }


@pytest.mark.parametrize("name", list_srgb_profiles())
def test_srgb_stays_as_it_is(name, colours, tmp_path):
    profile = list_srgb_profiles()[name]
    assert is_srgb(profile)
    save_image(tmp_path / "a.png", colours, icc_profile=profile)
    np.testing.assert_array_equal(load_image(tmp_path / "a.png"), colours)
    assert check_image(tmp_path / "a.png")[1].profile == ""
    for other in (build_profile("p3"), build_profile("srgb", gamma_curve(2.2)), build_profile("srgb", gamma_curve(1))):
        assert not is_srgb(other)


def test_modes_that_fit_their_profile(colours, tmp_path):
    grey = Image.fromarray(colours[..., 0])
    steep = build_profile("grey", gamma_curve(2.2))
    expected = compute_srgb(colours[..., :1].repeat(3, axis=2), "srgb", 2.19921875)
    for image in (grey, Image.merge("LA", (grey, grey))):
        save_image(tmp_path / "a.png", image, icc_profile=steep)
        assert np.abs(load_image(tmp_path / "a.png") - expected).max() < 4
    assert is_srgb(build_profile("grey"))
    palette = Image.fromarray(colours).quantize(16)
    save_image(tmp_path / "p.png", palette, icc_profile=build_profile("adobe", gamma_curve(2.2)))
    shown = compute_srgb(np.asarray(palette.convert("RGB")), "adobe", 2.19921875)
    assert np.abs(load_image(tmp_path / "p.png") - shown).max() < 2


@pytest.mark.parametrize(
    ("mode", "profile"),
    [
        ("L", build_profile("p3")),
        ("RGB", build_profile("grey", gamma_curve(1.0))),
        ("CMYK", build_profile("p3")),
        ("I;16", build_profile("grey", gamma_curve(1.0))),
        ("RGB", b"Adobe RGB (1998)"),
        ("RGB", build_profile("p3")[:200]),
        ("RGB", build_profile("p3").replace(b"RGB XYZ ", b"CMYKLab ")),
        ("CMYK", build_profile("p3").replace(b"RGB XYZ ", b"CMYKLab ")),
    ],
)
def test_what_does_not_fit_is_not_applied_and_noted(mode, profile, colours, tmp_path):
    image = Image.fromarray(colours).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    image.save(tmp_path / "a.tif")
    expected = load_image(tmp_path / "a.tif")
    image.save(tmp_path / "b.tif", icc_profile=profile)
    np.testing.assert_array_equal(load_image(tmp_path / "b.tif"), expected)
    assert check_image(tmp_path / "b.tif")[1].profile == "ignored"


def test_no_damage_to_a_profile_stops_an_image(colours):
    whole = build_profile("adobe", gamma_curve(2.2))
    generator = np.random.default_rng(0)
    for number in range(150):
        profile = bytearray(whole[: int(generator.integers(1, len(whole) + 1))] if number % 2 else whole)
        for at in generator.integers(0, len(profile), 4):
            profile[at] = int(generator.integers(0, 256))
        file = io.BytesIO()
        Image.fromarray(colours).save(file, "PNG", icc_profile=bytes(profile))
        assert load_image(file.getvalue()).shape == colours.shape
        assert check_image(file.getvalue())[1].profile in ("", "applied", "ignored")


def test_masks_and_named_bands_keep_what_is_stored(colours, tmp_path):
    profile = build_profile("grey", gamma_curve(1.0))
    Image.fromarray(colours[..., 0]).save(tmp_path / "m.png", icc_profile=profile)
    np.testing.assert_array_equal(load_mask(tmp_path / "m.png"), colours[..., 0])
    save_image(tmp_path / "a.png", colours, icc_profile=build_profile("p3"))
    bands = load_bands(tmp_path / "a.png", ImageForm((2, 0), "uint8", (0.0, 255.0)))
    np.testing.assert_array_equal(bands.image, colours[..., [2, 0]])


@pytest.mark.parametrize("kind", ["RGB", "L", "P"])
def test_a_tiff_that_is_read_in_parts_is_converted_alike(kind, tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (70, 40, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(kind)
    profile = build_profile("grey", gamma_curve(1.0)) if kind == "L" else build_profile("adobe", gamma_curve(2.2))
    image.save(tmp_path / "a.tif", icc_profile=profile, tiffinfo={278: 16})
    with TiffImage(Path(tmp_path / "a.tif")) as large:
        found = np.concatenate([large.read(slice(top, top + 14), slice(0, 40)) for top in range(0, 70, 14)])
    np.testing.assert_array_equal(found, load_image(tmp_path / "a.tif"))
    assert (found != np.asarray(image.convert("RGB"))).any()
