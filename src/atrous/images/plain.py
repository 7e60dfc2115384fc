"""Pixels of the most usual files, faster than Pillow decodes them: JPEGs of one scan, and PNGs of 8-bit indices.

What is returned here equals what Pillow would decode. Of a file that is not plain, not whole or large nothing is:
Pillow decodes it, or says what is wrong with it.
"""

from __future__ import annotations

import importlib
import math
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

try:
    zlib: Any = importlib.import_module("zlib_ng.zlib_ng")
except ImportError:  # slower
    zlib = importlib.import_module("zlib")

_JFIF = b"\xff\xd8\xff\xe0\0\x10JFIF\0"
_SCAN, _END, _FRAME = b"\xff\xda", b"\xff\xd9", b"\xff\xc0"
_BARE = (_FRAME, b"\xff\xdb", b"\xff\xc4", b"\xff\xdd", b"\xff\xe0", b"\xff\xfe")
"""Segments of a JPEG that say nothing of orientation, colours or pages: sizes, tables, JFIF and comments."""
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""What ends the data of a scan in a JPEG: 0 stands for a byte of data, and D0 to D7 mark a place in them."""
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_PNG_CHUNKS = re.compile(rb"IHDR(PLTE)?(IDAT)+IEND")
_INDICES = ((8, 0, 0, 0, 0), (8, 3, 0, 0, 0))
"""Bits, kind of colours, compression, filters and interlacing: one byte a pixel, grey or of a palette."""


def load_bare_jpeg(source: object) -> np.ndarray | None:
    """Decode a JPEG that holds nothing but its pixels; None of all else, and of what cannot be read.

    Args:
        source: A path, or an encoded file as bytes.
    Returns:
        (H, W, 3) uint8 RGB.
    """
    content = _read_content(source, _JFIF)
    place, is_small = 2, False
    while (segment := content[place : place + 2]) in _BARE:
        if segment == _FRAME:
            bits, height, width, channels = struct.unpack(">B2HB", content[place + 4 : place + 10].ljust(6, b"\0"))
            is_small = bits == 8 and channels in (1, 3) and _is_small(height, width)
        place += 2 + max(int.from_bytes(content[place + 2 : place + 4], "big"), 2)
    return decode_plain_jpeg(content) if is_small and segment == _SCAN else None


def decode_plain_jpeg(content: bytes) -> np.ndarray | None:
    """Decode a JPEG with OpenCV; None if Pillow has to do it.

    OpenCV reads what Pillow refuses, a scan that breaks off at a marker: so it gets none but a single, whole scan.

    Args:
        content: The file, which is neither CMYK nor large.
    Returns:
        (H, W, 3) uint8 RGB as stored: neither its orientation nor its profile is applied.
    """
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
    try:
        pixels: np.ndarray | None = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:  # no memory, which Pillow says too
        return None
    return pixels


def load_plain_indices(source: object) -> np.ndarray | None:
    """Decode a PNG of 8-bit indices or grey values at once; None of all else, and of what cannot be read.

    Args:
        source: A path, or an encoded file as bytes.
    Returns:
        (H, W) uint8.
    """
    content = _read_content(source, _PNG)
    width, height, *form = struct.unpack(">2I5B", content[16:29].ljust(13, b"\0"))
    if tuple(form) not in _INDICES or not _is_small(height, width):
        return None
    place, kinds, parts = len(_PNG) - 8, [b""], []
    while kinds[-1] != b"IEND":
        kind, end = content[place + 4 : place + 8], place + 8 + int.from_bytes(content[place : place + 4], "big")
        if zlib.crc32(content[place + 4 : end]).to_bytes(4, "big") != content[end : end + 4]:
            return None
        if kind == b"IDAT":
            parts.append(content[place + 8 : end])
        kinds.append(kind)
        place = end + 4
    if not _PNG_CHUNKS.fullmatch(b"".join(kinds)):
        return None
    num_bytes = height * (width + 1)
    stream = zlib.decompressobj()
    try:
        rows = stream.decompress(b"".join(parts), num_bytes)
        is_whole = len(rows) == num_bytes and not stream.decompress(stream.unconsumed_tail, 1) and stream.eof
    except zlib.error:
        return None
    values = np.frombuffer(rows, np.uint8)
    if not is_whole or values[:: width + 1].any():  # a row begins with its filter, 0 for none
        return None
    return values.reshape(height, width + 1)[:, 1:].copy()


def _is_small(height: int, width: int) -> bool:
    """Whether Pillow opens an image of this size without asking whether it is a decompression bomb."""
    return 0 < height * width <= (Image.MAX_IMAGE_PIXELS or math.inf)


def read_opened(image: Image.Image) -> bytes:
    """Return the whole file of an opened image that is not loaded yet; nothing of others.

    Args:
        image: The image.
    """
    file = getattr(image, "fp", None)
    if file is None or not getattr(image, "tile", ()):
        return b""
    file.seek(0)
    content: bytes = file.read()
    return content


def _read_content(source: object, start: bytes) -> bytes:
    """Return a path's or bytes' whole file; nothing of one that begins otherwise or cannot be read."""
    if isinstance(source, bytes):
        return source if source.startswith(start) else b""
    if not isinstance(source, str | Path):
        return b""
    try:
        with open(source, "rb", buffering=0) as file:  # read for every sample: pathlib and buffers would take longer
            return start + file.read() if file.read(len(start)) == start else b""
    except (OSError, ValueError, MemoryError):  # ValueError: a zero byte in the path
        return b""
