"""Pixels of the most usual files, faster than Pillow decodes them: JPEGs of one scan, and PNGs with a palette.

Pillow has opened the file and refused what is hostile. What is returned here equals what Pillow would decode; of a file
that is not plain or not whole nothing is, and Pillow decodes it, or says what is wrong with it.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

import numpy as np
from PIL import Image

_SCAN, _END = b"\xff\xda", b"\xff\xd9"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""What ends the data of a scan in a JPEG: 0 stands for a byte of data, and D0 to D7 mark a place in them."""


def decode_plain_jpeg(image: Image.Image) -> np.ndarray | None:
    """Decode an opened JPEG with OpenCV; None if Pillow has to do it.

    OpenCV reads what Pillow refuses, a scan that breaks off at a marker: so it gets none but a single, whole scan.

    Args:
        image: An opened file, not loaded yet.
    Returns:
        (H, W, 3) uint8 RGB as stored, its orientation not applied.
    """
    content = _read_content(image) if image.format == "JPEG" and image.mode in ("RGB", "L") else b""
    place = 2
    while content[place : place + 2] != _SCAN:
        if content[place : place + 1] != _SCAN[:1]:
            return None
        place += 2 + max(int.from_bytes(content[place + 2 : place + 4], "big"), 2)
    marker = _MARKER.search(content, place + 2)
    if marker is None or marker[0] != _END:
        return None
    import cv2  # which takes long to load

    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    pixels: np.ndarray | None = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    return pixels


def inflate_palette(image: Image.Image) -> np.ndarray | None:
    """Decode the indices of an opened PNG with a palette of 8 bits at once; None if Pillow has to do it.

    Args:
        image: An opened file, not loaded yet.
    Returns:
        (H, W) uint8.
    """
    tiles: list[Any] = getattr(image, "tile", [])
    is_plain = image.format == "PNG" and image.mode == "P" and not image.info.get("interlace")
    if not is_plain or len(tiles) != 1 or tiles[0][3] != "P":
        return None
    content, place, parts = _read_content(image), tiles[0][2], []
    while content[place - 4 : place] == b"IDAT":
        size = int.from_bytes(content[place - 8 : place - 4], "big")
        parts.append(content[place : place + size])
        place += size + 12
    num_bytes = image.height * (image.width + 1)
    stream = zlib.decompressobj()
    try:
        rows = stream.decompress(b"".join(parts), num_bytes)
        is_whole = len(rows) == num_bytes and not stream.decompress(stream.unconsumed_tail, 1) and stream.eof
    except zlib.error:
        return None
    values = np.frombuffer(rows, np.uint8)
    if not is_whole or values[:: image.width + 1].any():  # a row begins with its filter, 0 for none
        return None
    return values.reshape(image.height, image.width + 1)[:, 1:].copy()


def _read_content(image: Image.Image) -> bytes:
    """Return the whole file of an image; nothing of an image that has none."""
    file = getattr(image, "fp", None)
    if file is None:
        return b""
    file.seek(0)
    content: bytes = file.read()
    return content
