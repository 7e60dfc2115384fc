"""From files to arrays: the one loader of images and masks for training, scoring and predicting.

Images become (H, W, 3) uint8 RGB: the EXIF rotation is applied, grey is repeated, alpha is dropped (colours under
transparent pixels stay as stored), 16 bits are divided by 257. Masks become (H, W) ids and are never rotated.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError

from atrous.core.errors import DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
"""Suffixes of files that are taken for images or masks, in lower case."""

HUGE_PX = 64_000_000
"""A TIFF of more pixels is not loaded but read a part at a time; Pillow warns from 89 million on, and refuses 179."""

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")
_LYING_ORIENTATIONS = (5, 6, 7, 8)


def load_image(path: Path) -> np.ndarray:
    """Read an image as it is meant to be seen.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        DataError: The file is missing, broken, hostile, or no image of 8 or 16 bits a channel.
    """
    with _open_image(path) as image:
        if image.mode in ("I", "F"):
            raise DataError(
                f"{path}: 32 bits a pixel, whose range is not known", "Save the image with 8 or 16 bits a channel."
            )
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith("I;16"):
            values = np.asarray(image).astype(np.uint32)
            grey = ((values + 128) // 257).astype(np.uint8)
            return np.stack([grey] * 3, axis=-1)
        if image.mode in ("P", "PA"):
            return np.array(image.convert("RGBA").convert("RGB"))
        return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def is_huge_tiff(path: Path) -> bool:
    """Tell from a file's head whether it is a TIFF of more than `HUGE_PX` pixels, which Pillow might refuse to open.

    A file that cannot be read is not; what is wrong with it is said by whoever loads it.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        return False
    try:
        with path.open("rb") as file:
            return math.prod(_read_tiff_sides(file)) > HUGE_PX
    except (OSError, OverflowError, KeyError, struct.error):
        return False


def _read_tiff_sides(file: BinaryIO) -> tuple[int, int]:
    """Read width and height of the first image of a TIFF or BigTIFF from its head alone."""
    order = {b"II": "<", b"MM": ">"}[file.read(2)]
    is_big = struct.unpack(f"{order}H", file.read(2)) == (43,)
    start, num_tags, tag = ("4xQ", "Q", "HHQ8s") if is_big else ("L", "H", "HHL4s")

    def read(form: str) -> Any:
        return struct.unpack(order + form, file.read(struct.calcsize(order + form)))

    file.seek(*read(start))
    sides: dict[int, int] = {}
    for _ in range(*read(num_tags)):
        code, kind, _, value = read(tag)
        if code in (ExifTags.Base.ImageWidth, ExifTags.Base.ImageLength):
            num_bytes = {3: 2, 4: 4, 16: 8}[kind]
            sides[code] = int.from_bytes(value[:num_bytes], "little" if order == "<" else "big")
    return sides[ExifTags.Base.ImageWidth], sides[ExifTags.Base.ImageLength]


def load_mask(path: Path) -> np.ndarray:
    """Read a mask as ids: palette indices, grey values, or 0 and 1 of a two-colour image; no EXIF rotation.

    Returns:
        (H, W) uint8 or uint16.

    Raises:
        DataError: The file is missing, broken or hostile, a JPEG, or in colour.
    """
    with _open_image(path) as image:
        if image.format in ("JPEG", "MPO"):
            raise DataError(f"{path}: a mask as JPEG, which blurs ids at every edge", "Export the masks as PNG.")
        if image.mode.startswith("I;16"):
            return np.asarray(image).astype(np.uint16)
        if image.mode in ("1", "L", "P"):
            return np.array(image, dtype=np.uint8)
        if image.mode in ("LA", "PA"):
            return np.array(image)[..., 0]
        if image.mode in ("RGB", "RGBA") and ";16" not in str(image.tile):
            channels = np.asarray(image)
            if (channels[..., :1] == channels[..., 1:3]).all():
                return channels[..., 0].copy()
            raise _describe_colours(path, channels[..., :3])
        raise DataError(
            f"{path}: a mask of mode {image.mode}", "Masks hold one id a pixel: 8 or 16 bits grey, or a palette."
        )


def load_image_size(path: Path) -> tuple[int, int, bool]:
    """Read an image's size from its head, without decoding it.

    Returns:
        Height and width as `load_image` gives them, and whether an EXIF tag turns or mirrors the image.

    Raises:
        DataError: The file is missing or no image.
    """
    with _open_image(path) as image:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        height, width = image.height, image.width
    if orientation in _LYING_ORIENTATIONS:
        height, width = width, height
    return height, width, orientation in (2, 3, 4, *_LYING_ORIENTATIONS)


def describe_size_mismatch(image: Path, mask: Path, mask_size: tuple[int, int]) -> str:
    """Say in a line how the sizes of a pair differ; empty where they agree. Sizes are (height, width)."""
    height, width, turned = load_image_size(image)
    if (height, width) == mask_size:
        return ""
    line = f"{image} is {height}x{width} (height x width), {mask} is {mask_size[0]}x{mask_size[1]}"
    if turned and (width, height) == mask_size:
        line += ": the image's EXIF tag turns it, and the mask was drawn on the unturned image"
    return line


@contextmanager
def _open_image(path: Path) -> Iterator[ImageFile.ImageFile]:
    try:
        with Image.open(path, formats=_FORMATS) as image:
            yield image
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{path}: {error}",
            "Cut the image into tiles, or save it as a TIFF, which `atrous predict` reads in parts.",
        ) from error
    except UnidentifiedImageError as error:
        empty = path.stat().st_size == 0
        raise DataError(
            f"{path}: {'an empty file' if empty else 'not an image that can be read'}",
            f"Known suffixes: {', '.join(sorted(IMAGE_SUFFIXES))}.",
        ) from error
    except Exception as error:  # a broken file may raise anything inside a decoder; what matters is which file
        raise DataError(
            f"{path}: cannot be decoded: {error}", "Replace the file, or remove it with its pair."
        ) from error


def _describe_colours(path: Path, channels: np.ndarray) -> DataError:
    colours, counts = np.unique(channels.reshape(-1, 3), axis=0, return_counts=True)
    first = ", ".join(
        f"({r}, {g}, {b}) {counts[i]:,} pixels" for i in np.argsort(-counts)[:3] for r, g, b in [colours[i].tolist()]
    )
    return DataError(
        f"{path}: a mask in colour, {len(colours):,} colours: {first}",
        "Masks hold one id a pixel: write grey values or palette indices instead of colours.",
    )
