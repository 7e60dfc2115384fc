"""Arrays to encoded bytes: index PNG, overlay, confidence, plain PNG and JPEG.

The `encode_*` functions return the bytes of a file; the `save_*` functions write them atomically.
"""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from atrous.core.files import atomic_path, open_deferring
from atrous.core.labels import LabelSpace
from atrous.images.decode import ignore_size_warnings
from atrous.images.palette import build_colour_table

OVERLAY_STRENGTH = 0.55
"""Share of the class colour in an overlay; the rest is the image."""
BORDER_COLOUR = (255, 255, 255)
JPEG_QUALITY, THUMBNAIL_QUALITY = 90, 80
_TEXT_KEY = "atrous"
LONGEST_JPEG_SIDE = 65500
"""Longest side of a JPEG in pixels; the format allows 35 more, which few decoders accept."""


def encode_index_png(labels: np.ndarray, label_space: LabelSpace | None = None) -> bytes:
    """Encode ids as the pixel values of a PNG: grey, or of 8 bits with the class colours as its palette.

    Many libraries read a palette as colours, or as their brightness; every library reads grey values as they are.

    Only runs of equal pixels are compressed: label maps contain little else, and the default search for repeated
    patterns takes three times as long.

    Args:
        labels: Ids; 16 bits where any id of the data is above 255, which are always grey.
        label_space: The classes, whose colours are the palette. Default: grey.
    Shapes:
        labels (H, W) uint8 or uint16.
    """
    image = Image.fromarray(labels)
    if labels.dtype == np.uint8 and label_space is not None:
        image.putpalette(build_colour_table(label_space, 256).tobytes())
    return _encode(image, "PNG", compress_type=zlib.Z_RLE)


def encode_confidence(confidence: np.ndarray) -> bytes:
    """Encode confidence (H, W) in [0, 1] as a grey PNG, 255 for 1."""
    return encode_png(np.rint(confidence * 255).astype(np.uint8))


def encode_png(image: np.ndarray, *, text: str = "") -> bytes:
    """Encode an image as PNG.

    Args:
        image: The image.
        text: What the file says of itself, for `read_png_text`.
    Shapes:
        image (H, W) or (H, W, 3) uint8.
    """
    if not text:
        return _encode(Image.fromarray(image), "PNG")
    about = PngInfo()
    about.add_text(_TEXT_KEY, text)
    return _encode(Image.fromarray(image), "PNG", pnginfo=about)


def read_png_text(path: Path) -> str:
    """Return what a PNG that atrous wrote says of itself; empty for any other file."""
    ignore_size_warnings()
    try:
        with Image.open(path, formats=["PNG"]) as image:
            return str(image.info.get(_TEXT_KEY, ""))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return ""


def encode_jpeg(image: np.ndarray) -> bytes:
    """Encode an image (H, W, 3) uint8 as JPEG, downscaled if a side exceeds `LONGEST_JPEG_SIDE`."""
    shown = Image.fromarray(image)
    shown.thumbnail((LONGEST_JPEG_SIDE, LONGEST_JPEG_SIDE))
    return _encode(shown, "JPEG", quality=JPEG_QUALITY)


def draw_overlay(image: np.ndarray, labels: np.ndarray, label_space: LabelSpace) -> np.ndarray:
    """Draw class colours over an image, with thin borders between classes; ignored pixels show the image alone.

    Args:
        image: The image that was labelled.
        labels: Ids of its pixels.
        label_space: The classes and their colours.
    Shapes:
        image (H, W, 3) uint8, labels (H, W) uint8 or uint16; out (H, W, 3) uint8.
    """
    colours = build_colour_table(label_space, 65536)[labels]
    drawn = cv2.addWeighted(image, 1 - OVERLAY_STRENGTH, colours, OVERLAY_STRENGTH, 0)
    ignored = np.isin(labels, label_space.ids, invert=True)
    drawn[ignored] = image[ignored]
    drawn[find_borders(labels)] = BORDER_COLOUR
    return drawn


def encode_thumbnail(image: np.ndarray, labels: np.ndarray | None, label_space: LabelSpace, side: int) -> bytes:
    """Encode a small image as JPEG, with class colours drawn over it.

    Args:
        image: The image.
        labels: Ids of its pixels; None: the image alone.
        label_space: The classes and their colours.
        side: Longest side in pixels; smaller images are not enlarged.
    Shapes:
        image (H, W, 3) uint8, labels (H, W) uint8 or uint16.
    """
    height, width = image.shape[:2]
    factor = min(1.0, side / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    if labels is not None:
        small = draw_overlay(small, cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST_EXACT), label_space)
    return _encode(Image.fromarray(small), "JPEG", quality=THUMBNAIL_QUALITY)


def shrink_view(view: np.ndarray, side: int, *, smooth: bool) -> np.ndarray:
    """Shrink an image to be looked at; a smaller one stays as it is.

    Args:
        view: The image.
        side: Longest side in pixels.
        smooth: Whether pixels are averaged; labels and their colours are not.
    Shapes:
        in (H, W, ...); out (H, W, ...)
    """
    factor = min(side / max(view.shape[:2]), 1.0)
    size = (max(round(view.shape[1] * factor), 1), max(round(view.shape[0] * factor), 1))
    return cv2.resize(view, size, interpolation=cv2.INTER_AREA if smooth else cv2.INTER_NEAREST)


def find_borders(labels: np.ndarray) -> np.ndarray:
    """Mark the pixels (H, W) whose right or lower neighbour has another label, in thicker lines on large images.

    Shapes:
        in (H, W); out (H, W) bool.
    """
    borders = np.zeros(labels.shape, dtype=np.uint8)
    borders[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    borders[:-1] |= labels[:-1] != labels[1:]
    thickness = 1 + min(labels.shape) // 1000
    return cv2.dilate(borders, np.ones((thickness, thickness), np.uint8)).astype(bool)


def save_index_image(path: Path, labels: np.ndarray, label_space: LabelSpace | None = None) -> None:
    """Write ids as an index PNG.

    Args:
        path: The file.
        labels: Ids, (H, W) uint8 or uint16.
        label_space: The classes, whose colours are the palette. Default: grey.
    """
    save_encoded(path, encode_index_png(labels, label_space))


def save_overlay(path: Path, drawn: np.ndarray) -> None:
    """Write an overlay as JPEG, downscaled if a side exceeds `LONGEST_JPEG_SIDE`.

    Args:
        path: The file.
        drawn: The drawn image, (H, W, 3) uint8.
    """
    save_encoded(path, encode_jpeg(drawn))


def save_confidence(path: Path, confidence: np.ndarray) -> None:
    """Write confidence as a grey PNG, 255 for 1.

    Args:
        path: The file.
        confidence: Probability of the given class, (H, W) in [0, 1].
    """
    save_encoded(path, encode_confidence(confidence))


def save_probabilities(path: Path, probabilities: np.ndarray) -> None:
    """Write probabilities as a numpy file of float16.

    Args:
        path: The file.
        probabilities: Of each class, (K, H, W) in [0, 1].
    """
    with atomic_path(path) as temporary, open_deferring(temporary) as file:  # numpy drops the reason of a failure
        np.save(file, probabilities.astype(np.float16))


def save_encoded(path: Path, content: bytes) -> None:
    """Write encoded bytes atomically.

    Args:
        path: The file.
        content: All that it will hold.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _encode(image: Image.Image, format: str, **options: int | PngInfo) -> bytes:
    file = io.BytesIO()
    image.save(file, format=format, **options)
    return file.getvalue()
