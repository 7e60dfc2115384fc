"""Images written in any format that is read, those of optional packages included."""

from __future__ import annotations

import io
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
