"""Colour profiles (ICC): the colours of an image that is not sRGB are converted to sRGB, as a viewer shows them.

Profiles come from elsewhere: one that is damaged, or of another kind of image than its file, is not applied.
"""

from __future__ import annotations

import io
import struct
from typing import Any, Literal

import numpy as np
from PIL import Image

ProfileUse = Literal["", "applied", "ignored"]
"""What becomes of a profile: nothing, since there is none or the colours are sRGB; or it cannot be applied."""
_MODES = {b"RGB ": "RGB", b"GRAY": "L", b"CMYK": "CMYK"}
"""Pillow's mode of the pixels to which a profile applies, by its kind of colours."""
_FITTING = {
    b"RGB ": ("RGB", "RGBA", "P", "PA"),
    b"GRAY": ("1", "L", "LA"),
    b"CMYK": ("CMYK",),
}
_COLORANTS = {
    b"rXYZ": (0.4361, 0.2225, 0.0139),
    b"gXYZ": (0.3851, 0.7169, 0.0971),
    b"bXYZ": (0.1431, 0.0606, 0.7141),
}
"""Red, green and blue of sRGB, adapted to D50, as IEC 61966-2-1 and the ICC give them."""
_SAMPLES = (0.01, 0.03, 0.1, 0.25, 0.5, 0.75)
_NEAR_COLORANT, _NEAR_CURVE = 0.003, 0.0007
"""Differences to sRGB that no value of 8 bits shows."""
_MOST_TAGS = 100


def find_profile_use(image: Image.Image) -> ProfileUse:
    """Say what becomes of the profile of an image when it is converted.

    Args:
        image: The opened file.
    """
    if not has_other_colours(image):
        return ""
    return "ignored" if build_transform(image.info["icc_profile"], image.mode) is None else "applied"


def has_other_colours(image: Image.Image) -> bool:
    """Whether an image has a profile of other colours than sRGB, whether or not it can be applied.

    Args:
        image: The opened file.
    """
    profile = image.info.get("icc_profile")
    return profile is not None and len(profile) > 0 and not is_srgb(profile)


def convert_to_srgb(image: Image.Image) -> Image.Image:
    """Return an image as RGB of 8 bits, its colours converted to sRGB if it has a profile of others.

    Args:
        image: The image, of 8 bits a channel; alpha is dropped.
    """
    if has_other_colours(image):
        profile = image.info["icc_profile"]
        if (transform := build_transform(profile, image.mode)) is not None:
            converted: Image.Image = transform.apply(_convert(image, _MODES[profile[16:20]]))
            return converted
    return _convert(image, "RGB")


def convert_pixels(pixels: np.ndarray, profile: bytes) -> np.ndarray:
    """Return a part of an image as `convert_to_srgb` returns the whole.

    Args:
        pixels: RGB or grey.
        profile: The profile of the image.
    Shapes:
        in (H, W, 3) or (H, W) uint8; out (H, W, 3) uint8.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.info["icc_profile"] = profile
    return np.asarray(convert_to_srgb(image))


def build_transform(profile: bytes, mode: str) -> Any:
    """Return Pillow's transform from the colours of a profile to sRGB; None if it cannot be applied.

    Args:
        profile: The profile, of colours that are not sRGB.
        mode: Pillow's mode of the image.
    """
    space = profile[16:20]
    if mode not in _FITTING.get(space, ()):
        return None
    try:
        from PIL import ImageCms  # a build of Pillow may be without it

        return ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), _MODES[space], "RGB"
        )
    except Exception:  # a damaged profile may break anything
        return None


def is_srgb(profile: bytes) -> bool:
    """Whether the colours of a profile are those of sRGB, or of grey with its tone curve.

    Names do not tell: there are profiles of linear values with sRGB in their names.

    Args:
        profile: The profile.
    """
    try:
        tags = _read_tags(profile)
        if profile[16:20] == b"GRAY":
            return _is_srgb_curve(tags[b"kTRC"])
        colorants = {name: struct.unpack(">3i", tags[name][8:20]) for name in _COLORANTS}
        is_near = all(
            abs(value / 65536 - wanted) < _NEAR_COLORANT
            for name, values in colorants.items()
            for value, wanted in zip(values, _COLORANTS[name], strict=True)
        )
        return is_near and all(_is_srgb_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC"))
    except (KeyError, struct.error, ArithmeticError, ValueError, TypeError):  # damaged, or of other forms
        return False


def _read_tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack(">I", profile[128:132])
    rows = struct.iter_unpack(">4sII", profile[132 : 132 + 12 * min(count, _MOST_TAGS)])
    return {name: profile[start : start + size] for name, start, size in rows}


def _is_srgb_curve(tag: bytes) -> bool:
    """Whether a tone curve, "curv" or "para", is that of sRGB."""
    for value in _SAMPLES:
        wanted = value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        if abs(_compute_tone(tag, value) - wanted) > _NEAR_CURVE:
            return False
    return True


def _compute_tone(tag: bytes, value: float) -> float:
    """Return what a tone curve makes of a value from 0 to 1.

    Raises:
        ValueError: It is of a form that no profile of sRGB has.
    Source: ICC.1:2022, sections 10.6 and 10.18.
    """
    if tag[:4] == b"para":
        kind = struct.unpack(">H", tag[8:10])[0]
        if kind not in (3, 4):
            raise ValueError(f"a parametric curve of the kind {kind}")
        size = 5 if kind == 3 else 7
        given = [number / 65536 for number in struct.unpack(f">{size}i", tag[12 : 12 + 4 * size])]
        gamma, a, b, c, d, e, f = [*given, 0.0, 0.0][:7]
        return float((a * value + b) ** gamma + e if value >= d else c * value + f)
    (count,) = struct.unpack(">I", tag[8:12])
    numbers = np.frombuffer(tag[12:], ">u2", min(count, (len(tag) - 12) // 2)).tolist()
    if len(numbers) == 1:
        return float(value ** (numbers[0] / 256))
    return float(np.interp(value, np.linspace(0, 1, len(numbers)), np.array(numbers) / 65535))


def _convert(image: Image.Image, mode: str) -> Image.Image:
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    return image if image.mode == mode else image.convert(mode)
