"""Traits of an image as a whole: brightness, depth, pages, and a fingerprint by which similar images are found."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from PIL import Image

FINGERPRINT_BITS = 144
MOST_PAGES = 1000
"""Pages that are counted; a file may claim any number."""
_CELLS, _BLOCKS = 9, 16
_FLAT = 4.0
"""Standard deviation of brightness, of 255, below which an image has no fingerprint: noise would decide."""
_SUBFILE_TAG, _REDUCED_OR_MASK = 254, 5


@dataclass(frozen=True)
class ImageTraits:
    """What checks compare between images.

    Args:
        colour: Mean red, green and blue, each 0 to 255.
        brightest: Mean brightness of the brightest of 16 x 16 blocks, 0 to 255.
        bits: Bits per channel, 8 or 16, of grey images; 8 of all others.
        peak: The largest stored value of a grey image of 16 bits; 0 for others.
        num_pages: Pages or frames, overviews not counted.
        has_profile: Whether it has a colour profile other than sRGB, which is not applied.
        fingerprint: Whether each of 9 x 9 blocks is brighter than its left and its upper neighbour, as
            `FINGERPRINT_BITS` bits; 0 for an image of one brightness.
    """

    colour: tuple[int, int, int]
    brightest: int
    bits: int = 8
    peak: int = 0
    num_pages: int = 1
    has_profile: bool = False
    fingerprint: int = 0

    def to_json(self) -> list[Any]:
        """Return the fields in their order."""
        return [list(self.colour), *astuple(self)[1:-1], f"{self.fingerprint:x}"]

    @classmethod
    def from_json(cls, value: Any) -> ImageTraits:
        """Return the traits of `to_json`'s form.

        Raises:
            TypeError, ValueError: It is of another form.
        """
        (red, green, blue), brightest, bits, peak, num_pages, has_profile, fingerprint = value
        colour = (int(red), int(green), int(blue))
        return cls(
            colour, int(brightest), int(bits), int(peak), int(num_pages), bool(has_profile), int(fingerprint, 16)
        )


def compute_traits(image: Image.Image, num_pages: int) -> ImageTraits:
    """Compute the traits of a decoded image, which may be a smaller version of it.

    Args:
        image: The image, of 8 bits per channel or 16 bits grey.
        num_pages: See `ImageTraits`.
    """
    bits, peak = 8, 0
    profile = image.info.get("icc_profile") or b""
    if image.mode.startswith("I;16"):
        pixels = np.asarray(image).astype(np.uint16)
        bits, peak = 16, int(pixels.max(initial=0))
        image = Image.fromarray((pixels >> 8).astype(np.uint8))
    rgb = image.convert("RGB")
    box = Image.Resampling.BOX
    blocks = np.asarray(rgb.resize((_BLOCKS, _BLOCKS), box)).reshape(-1, 3).astype(float)
    red, green, blue = blocks.mean(axis=0).round().astype(int).tolist()
    cells = np.asarray(rgb.convert("L").resize((_CELLS, _CELLS), box)).astype(int)
    return ImageTraits(
        (red, green, blue),
        round(blocks.mean(axis=1).max()),
        bits,
        peak,
        num_pages,
        bool(profile) and not any(name in profile for name in (b"sRGB", "sRGB".encode("utf-16-be"))),
        _compute_fingerprint(cells) if cells.std() >= _FLAT else 0,
    )


def count_pages(image: Image.Image) -> int:
    """Return how many pages or frames an opened file has, at most `MOST_PAGES`; overviews in a TIFF do not count."""
    if image.format not in ("TIFF", "WEBP", "PNG"):
        return 1
    num_frames = min(int(getattr(image, "n_frames", 1)), MOST_PAGES)
    if image.format != "TIFF" or num_frames == 1:
        return num_frames
    num_pages = 0
    for number in range(num_frames):
        image.seek(number)
        num_pages += not getattr(image, "tag_v2", {}).get(_SUBFILE_TAG, 0) & _REDUCED_OR_MASK
    image.seek(0)
    return max(1, num_pages)


def _compute_fingerprint(cells: np.ndarray) -> int:
    bits = np.concatenate([(cells[:, 1:] > cells[:, :-1]).ravel(), (cells[1:] > cells[:-1]).ravel()])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
