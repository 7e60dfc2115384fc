"""The first bits of a JPEG XL image, which say its size: the package that decodes such files tells it too late."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

JXL_START, JXL_BOX_START = b"\xff\x0a", b"\x00\x00\x00\x0cJXL \r\n\x87\n"
"""First bytes of a codestream and of a container."""
_RATIOS = ((1, 1), (6, 5), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Width / height of images that store only their height."""
_SIDE_BITS = (9, 13, 18, 30)
_MOST_HEADER_BYTES = 64


class JxlHeader(NamedTuple):
    """What a JPEG XL image says first.

    Args:
        height: Height in pixels as stored.
        width: Width in pixels as stored.
        is_animated: Whether it has several frames that are shown one after another.
    """

    height: int
    width: int
    is_animated: bool


def read_jxl_header(content: bytes) -> JxlHeader:
    """Read the header of a JPEG XL image.

    Args:
        content: The file, a codestream or a container.
    Raises:
        ValueError: It is neither, or cut off, or has a preview image.
    Source: ISO/IEC 18181-1, annex D (image header); 18181-2, section 9 (container).
    """
    head = b""
    for part in _iter_codestream(content):
        head += part[:_MOST_HEADER_BYTES]
        if len(head) >= _MOST_HEADER_BYTES:
            break
    if not head.startswith(JXL_START):
        raise ValueError("no image in it")
    bits = _Bits(head[len(JXL_START) :])
    height, width = bits.read_size()
    is_animated = False
    if not bits.read(1) and bits.read(1):  # neither all defaults nor without extra fields
        bits.read(3)  # orientation
        if bits.read(1):
            bits.read_size()  # at which it is meant to be shown
        if bits.read(1):
            raise ValueError("it has a preview image, which is not read")
        is_animated = bool(bits.read(1))
    return JxlHeader(height, width, is_animated)


def _iter_codestream(content: bytes) -> Iterator[bytes]:
    """Yield the parts of the codestream in their order."""
    if not content.startswith(JXL_BOX_START):
        yield content
        return
    start = 0
    while start + 8 <= len(content):
        size, kind, head = int.from_bytes(content[start : start + 4], "big"), content[start + 4 : start + 8], 8
        if size == 1:
            size, head = int.from_bytes(content[start + 8 : start + 16], "big"), 16
        end = start + size if size else len(content)
        if end < start + head:
            raise ValueError("a box without a size")
        if kind in (b"jxlc", b"jxlp"):
            begin = start + head + (4 if kind == b"jxlp" else 0)  # the number of the part
            yield content[begin : min(end, begin + _MOST_HEADER_BYTES)]
        start = end


class _Bits:
    """Numbers of any number of bits, the lowest bit first."""

    def __init__(self, content: bytes) -> None:
        self._value, self._left = int.from_bytes(content, "little"), 8 * len(content)

    def read(self, count: int) -> int:
        if count > self._left:
            raise ValueError("truncated header")
        found = self._value & ((1 << count) - 1)
        self._value, self._left = self._value >> count, self._left - count
        return found

    def read_size(self) -> tuple[int, int]:
        """Read height and width in pixels."""
        is_small = self.read(1)
        height = self._read_side(is_small)
        if ratio := self.read(3):
            numerator, denominator = _RATIOS[ratio - 1]
            return height, height * numerator // denominator
        return height, self._read_side(is_small)

    def _read_side(self, is_small: int) -> int:
        return 8 * (self.read(5) + 1) if is_small else self.read(_SIDE_BITS[self.read(2)]) + 1
