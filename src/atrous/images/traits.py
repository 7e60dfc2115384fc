"""Traits of an image as a whole: brightness, depth, pages, and a fingerprint by which similar images are found."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any, cast

import numpy as np
from PIL import Image

from atrous.images.profile import ProfileUse, convert_to_srgb, find_profile_use

FINGERPRINT_BITS = 144
MOST_PAGES = 1000
"""Pages that are counted; a file may claim any number."""
_CELLS, _BLOCKS = 9, 16
_FLAT = 4.0
"""Standard deviation of brightness, of 255, below which an image has no fingerprint: noise would decide."""
_MOST_MEASURED = 2**16
"""Pixels of an image whose values are sorted."""
_SUBFILE_TAG, _REDUCED_OR_MASK = 254, 5


@dataclass(frozen=True, slots=True)
class ImageTraits:
    """What checks compare between images.

    Args:
        colour: Mean red, green and blue, each 0 to 255.
        brightest: Mean brightness of the brightest of 16 x 16 blocks, 0 to 255.
        bits: Bits per channel, 8, 16 or 32; 8 of RGB images.
        peak: The largest stored value of an image of more bits; 0 for others.
        num_pages: Pages or frames, overviews not counted.
        profile: What becomes of a colour profile other than sRGB.
        dtype: Type of the values as numpy names it.
        num_bands: Bands, alpha among them.
        num_colours: Those that are no alpha.
        is_photo: Whether it is RGB or grey, of 8 or 16 bits.
        values: Of images of more than 8 bits, by band, what 1 % and 99 % of the values do not exceed.
        missing: Share of the pixels without data: the nodata value of a GeoTIFF, or no finite number.
        place: Where it is on the Earth, as `Place.to_numbers` says; empty if it does not say.
        fingerprint: Whether each of 9 x 9 blocks is brighter than its left and its upper neighbour, as
            `FINGERPRINT_BITS` bits; 0 for an image of one brightness.
    """

    colour: tuple[int, int, int]
    brightest: int
    bits: int = 8
    peak: float = 0
    num_pages: int = 1
    profile: ProfileUse = ""
    dtype: str = "uint8"
    num_bands: int = 3
    num_colours: int = 3
    is_photo: bool = True
    values: tuple[tuple[float, float], ...] = ()
    missing: float = 0.0
    place: tuple[float, ...] = ()
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
        (red, green, blue), brightest, bits, peak, num_pages, profile, *bands, fingerprint = value
        dtype, num_bands, num_colours, is_photo, values, missing, place = bands
        return cls(
            (int(red), int(green), int(blue)),
            int(brightest),
            int(bits),
            float(peak),
            int(num_pages),
            cast(ProfileUse, str(profile)),
            str(dtype),
            int(num_bands),
            int(num_colours),
            bool(is_photo),
            tuple((float(low), float(high)) for low, high in values),
            float(missing),
            tuple(map(float, place)),
            int(fingerprint, 16),
        )


def compute_traits(image: Image.Image, num_pages: int) -> ImageTraits:
    """Compute the traits of a decoded image, which may be a smaller version of it.

    Args:
        image: The image, of 8 bits per channel or 16 bits grey.
        num_pages: See `ImageTraits`.
    """
    bits, peak, dtype = 8, 0, "uint8"
    values: tuple[tuple[float, float], ...] = ()
    profile = find_profile_use(image)
    if image.mode.startswith("I;16"):
        pixels = np.asarray(image).astype(np.uint16)
        bits, peak, dtype, values = 16, int(pixels.max(initial=0)), "uint16", measure_values(pixels[..., None])
        image = Image.fromarray((pixels >> 8).astype(np.uint8))
    rgb = convert_to_srgb(image)
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
        profile,
        dtype=dtype,
        values=values,
        fingerprint=_compute_fingerprint(cells) if cells.std() >= _FLAT else 0,
    )


def measure_values(samples: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Return what 1 % and 99 % of the values of each band do not exceed, over a regular grid of its pixels.

    Args:
        samples: The image, of finite numbers, (H, W, S).
    """
    step = max(round((samples[..., 0].size / _MOST_MEASURED) ** 0.5), 1)
    seen = samples[::step, ::step].reshape(-1, samples.shape[2])
    low, high = np.percentile(seen, (1, 99), axis=0, method="lower")
    return tuple(zip(low.tolist(), high.tolist(), strict=True))


def count_pages(image: Image.Image) -> int:
    """Return how many pages or frames an opened file has, at most `MOST_PAGES`; overviews in a TIFF do not count."""
    return len(list_pages(image))


def list_pages(image: Image.Image) -> list[int]:
    """Return the numbers of the frames of an opened file that are pages: overviews in a TIFF are none."""
    if image.format not in ("TIFF", "WEBP", "PNG", "AVIF", "HEIF"):
        return [0]
    num_frames = min(int(getattr(image, "n_frames", 1)), MOST_PAGES)
    if image.format != "TIFF" or num_frames == 1:
        return list(range(num_frames))
    numbers = []
    for number in range(num_frames):
        image.seek(number)
        if not getattr(image, "tag_v2", {}).get(_SUBFILE_TAG, 0) & _REDUCED_OR_MASK:
            numbers.append(number)
    image.seek(0)
    return numbers or [0]


def _compute_fingerprint(cells: np.ndarray) -> int:
    bits = np.concatenate([(cells[:, 1:] > cells[:, :-1]).ravel(), (cells[1:] > cells[:-1]).ravel()])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")
