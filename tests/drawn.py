"""Images written in any format that is read, those of optional packages included."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

PACKAGES = {".heic": "pillow_heif", ".heif": "pillow_heif", ".hif": "pillow_heif", ".jxl": "pillow_jxl"}


def save_image(path: Path, pixels: np.ndarray | Image.Image, **options: Any) -> None:
    """Write an image in the format of its suffix; the test is skipped where its package is missing."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    suffix = path.suffix.lower()
    if suffix == ".avif" and "AVIF" not in Image.SAVE:
        Image.init()
        if "AVIF" not in Image.SAVE:
            pytest.skip("this Pillow does not write AVIF")
    if suffix not in PACKAGES:
        image.save(path, **options)
    elif PACKAGES[suffix] == "pillow_heif":
        pytest.importorskip("pillow_heif", reason="the extra `formats` is not installed")
        from pillow_heif import register_heif_opener

        register_heif_opener()
        image.save(path, format="HEIF", **options)
    else:
        save_jxl(path, image, **options)


def save_jxl(file: Path | io.BytesIO, image: Image.Image, **options: Any) -> None:
    """Write a JPEG XL image; the test is skipped where its package is missing."""
    pytest.importorskip("pillow_jxl", reason="the extra `formats` is not installed")
    image.save(file, format="JXL", **options)


def exif_of(orientation: int) -> bytes:
    """EXIF data that hold an orientation."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif.tobytes()


def encode_jxl(pixels: np.ndarray, orientation: int) -> bytes:
    """Encode an image (H, W, 3) as JPEG XL that is shown turned: its header of defaults alone is written out.

    Height and width are multiples of 8 up to 256, and in no common ratio.
    """
    file = io.BytesIO()
    save_jxl(file, Image.fromarray(pixels))
    start, end = 2, 4
    bits = "".join(f"{byte:08b}"[::-1] for byte in file.getvalue()[start:end])
    size, defaults = bits[:14], bits[14:]
    assert (size[0], size[6:9], defaults) == ("1", "000", "11")
    extra = "01" + f"{orientation - 1:03b}"[::-1] + "000"  # shown at its own size, no preview, no animation
    depth_and_colours = "000" + "1" + "00" + "1" + "1" + "1" + "00"  # 8 bits, no alpha, XYB of sRGB
    bits = f"{size}{extra}{depth_and_colours}1".ljust(32, "0")
    header = bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))
    return file.getvalue()[:start] + header + file.getvalue()[end:]


SRGB_CURVE = struct.pack(
    ">4s4xHxx5i", b"para", 3, *(round(65536 * v) for v in (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045))
)
COLORANTS = {
    "srgb": ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.7141)),
    "p3": ((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407)),
    "adobe": ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)),
}
"""XYZ of red, green and blue, adapted to D50."""


def gamma_curve(gamma: float) -> bytes:
    """A tone curve of a profile that is a power."""
    return struct.pack(">4s4xIHxx", b"curv", 1, round(256 * gamma))


def build_profile(colours: str, curve: bytes = SRGB_CURVE, name: str = "of a test") -> bytes:
    """A profile of colours in `COLORANTS`, or of "grey"."""

    def xyz(values: tuple[float, ...]) -> bytes:
        return struct.pack(">4s4x3i", b"XYZ ", *(round(65536 * value) for value in values))

    text = name.encode() + b"\0"
    tags = {b"desc": struct.pack(">4s4xI", b"desc", len(text)) + text + bytes(78), b"wtpt": xyz((0.9642, 1.0, 0.8249))}
    if colours == "grey":
        tags[b"kTRC"] = curve
    else:
        for letter, values in zip("rgb", COLORANTS[colours], strict=True):
            tags |= {f"{letter}XYZ".encode(): xyz(values), f"{letter}TRC".encode(): curve}
    rows, body = b"", b""
    for code, content in tags.items():
        rows += struct.pack(">4sII", code, 132 + 12 * len(tags) + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    space = b"GRAY" if colours == "grey" else b"RGB "
    size = 132 + len(rows) + len(body)
    white = struct.pack(">3i", *(round(65536 * value) for value in (0.9642, 1.0, 0.8249)))
    head = struct.pack(">I4xI4s4s4s12x4s28x12s48x", size, 0x02400000, b"mntr", space, b"XYZ ", b"acsp", white)
    return head + struct.pack(">I", len(tags)) + rows + body
