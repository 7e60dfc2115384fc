"""The numbers that image files store, of any number of bands and any type, before a network's form is made of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps

from atrous.core.errors import DataError
from atrous.core.words import describe_count
from atrous.images.decode import (
    ImageHeader,
    ImageInput,
    check_image,
    choose_page,
    load_header,
    open_image,
    read_bytes,
)
from atrous.images.place import read_place
from atrous.images.tiff_pixels import load_tiff, load_tiff_mask
from atrous.images.tiff_tags import (
    BITS,
    HAS_MASK,
    NUM_BANDS,
    ORIENTATION,
    PALETTE,
    PHOTOMETRIC,
    RGB,
    count_bands,
    count_tiff_pages,
    is_tiff,
    read_dtype,
    read_nodata,
    read_tags,
    turn_upright,
)
from atrous.images.traits import ImageTraits, compute_traits, measure_values

_DEEP_PNG = {2: 3, 6: 4}
"""Samples of a PNG in colour, by its kind of colour."""
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_TIFF_DTYPES = {f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)} | {
    f"float{bits}" for bits in (16, 32, 64)
}
_PILLOW_DTYPES = {"I": "int32", "F": "float32"}


@dataclass(frozen=True)
class StoredImage:
    """What the header of an image says of its samples.

    Args:
        name: Name of the file for messages.
        num_bands: Samples of a pixel, S.
        num_colours: The first of them that are no alpha.
        dtype: Their type as numpy names it.
        is_photo: Whether `load_image` reads the file: grey or RGB of 8 or 16 bits.
        nodata: The value that stands for no data, if a GeoTIFF names one.
        has_mask: Whether a mask in the file says which pixels have data.
        has_fourth: Whether `load_image` loses a band that is no alpha, such as near infrared beside RGB.
    """

    name: str
    num_bands: int
    num_colours: int
    dtype: str
    is_photo: bool
    nodata: float | None = None
    has_mask: bool = False
    has_fourth: bool = False


def read_stored(source: ImageInput, page: int | None = None) -> StoredImage:
    """Read what the header of an image says of its samples, without decoding them.

    Args:
        source: As for `load_image`, but no array.
        page: Page of a file with several, from 1.
    Raises:
        DataError: The file is missing, not an image, damaged, or of a type that is not read.
    """
    if isinstance(source, str | Path | bytes) and is_tiff(source):
        return _read_stored_tiff(source, page)
    with open_image(source) as (image, name):
        if size := _find_deep_png(source):
            return StoredImage(name, size, 3, "uint16", is_photo=True)
        mode = "RGBA" if image.mode in ("P", "PA") else image.mode
        dtype = "uint16" if mode.startswith("I;16") else _PILLOW_DTYPES.get(mode, "uint8")
        has_alpha = mode in ("LA", "La", "RGBA", "RGBa")
        bands = 1 if dtype != "uint8" or mode in ("1", "L") else len(mode) if has_alpha else 3
        return StoredImage(name, bands, bands - has_alpha, dtype, is_photo=mode not in _PILLOW_DTYPES)


def load_samples(source: ImageInput, page: int | None = None) -> np.ndarray:
    """Decode all samples of an image in the type in which they are stored; the orientation is applied.

    Args:
        source: As for `load_image`, but no array.
        page: Page of a file with several, from 1.
    Returns:
        (H, W, S), alpha included; a palette becomes its colours.
    Raises:
        DataError: The file is missing, broken or hostile, or of a type that is not read.
        MachineError: Not enough memory to decode it, or a TIFF needs a package that is not installed.
    """
    if isinstance(source, str | Path | bytes) and is_tiff(source):
        tags = read_tags(source, page)
        if tags.get(PHOTOMETRIC) != PALETTE:
            samples = load_tiff(source, page)
            if samples.shape[2] != tags.get(NUM_BANDS, 1):
                name = _name_tiff(source)
                raise DataError(f"{name}: its tags contradict each other in the number of bands", "Replace the file.")
            return turn_upright(samples, int(tags.get(ORIENTATION, 1)))
    with open_image(source) as (image, name):
        choose_page(source, image, name, page)
        if _find_deep_png(source) and not isinstance(source, Image.Image | np.ndarray):
            import cv2  # which takes long to load, and few files need it

            found = cv2.imdecode(np.frombuffer(read_bytes(source), np.uint8), cv2.IMREAD_UNCHANGED)
            if found is None or found.ndim != 3:
                raise DataError(f"{name}: cannot be decoded", "Replace the file, or remove it with its pair.")
            samples = found[..., [2, 1, 0, 3][: found.shape[2]]]
            return turn_upright(samples, image.getexif().get(ExifTags.Base.Orientation, 1))
        if isinstance(source, Image.Image):
            image = ImageOps.exif_transpose(image)
        else:
            ImageOps.exif_transpose(image, in_place=True)
        if image.mode in ("P", "PA"):
            image = image.convert("RGBA")
        elif image.mode not in ("L", "LA", "RGB", "RGBA", "I", "F") and not image.mode.startswith("I;16"):
            image = image.convert("L" if image.mode == "1" else "RGB")
        pixels = np.array(image)
        if image.mode.startswith("I;16"):
            pixels = pixels.astype(np.uint16)
        return pixels if pixels.ndim == 3 else pixels[..., None]


def inspect_image(path: Path, *, content: bytes | None = None) -> tuple[ImageHeader, ImageTraits]:
    """Read an image of any number of bands to its last byte, and return its header and its traits.

    Args:
        path: The file.
        content: Its bytes, if they have been read.
    Raises:
        DataError: It cannot be read: the file is missing, truncated or damaged, or of a type that is not read.
        MachineError: Not enough memory to decode it, or a TIFF needs a package that is not installed.
    """
    if not is_tiff(path if content is None else content):
        header, traits = check_image(path, content=content)
        depth = _find_deep_png(path if content is None else content)
        return header, replace(traits, dtype="uint16") if depth else traits
    stored = read_stored(path, page=1)
    known = describe_stored(path, stored)
    if stored.is_photo:
        header, traits = check_image(path, content=content)
        if stored.nodata is None and not stored.has_mask:
            return header, replace(traits, **known)
    samples = load_samples(path, page=1)[..., : stored.num_colours]
    is_missing = find_missing(samples, stored, lambda: load_hidden(path, 1))
    known["missing"] = float(is_missing.mean())
    if not stored.is_photo:
        header, traits = load_header(path), measure_samples(samples, is_missing, count_tiff_pages(path))
    return header, replace(traits, **known)


def describe_stored(path: Path, stored: StoredImage) -> dict[str, Any]:
    """Return the traits that the tags of a TIFF say.

    Args:
        path: The file.
        stored: What `read_stored` says of it.
    """
    place = read_place(path)
    return {
        "dtype": stored.dtype,
        "num_bands": stored.num_bands,
        "num_colours": stored.num_colours,
        "is_photo": stored.is_photo,
        "place": () if place is None else place.to_numbers(),
    }


def load_hidden(source: Any, page: int | None = None) -> np.ndarray:
    """Return which pixels of a TIFF have no data as the mask in it says, (H, W) bool.

    Args:
        source: A path, or the file as bytes, of which `read_stored` says that it has a mask.
        page: Page of a file with several, from 1.
    Raises:
        DataError: The file is broken or hostile.
        MachineError: Not enough memory, or a package is not installed.
    """
    return load_tiff_mask(source, read_tags(source, page), page)


def find_missing(samples: np.ndarray, stored: StoredImage, read_hidden: Callable[[], np.ndarray]) -> np.ndarray:
    """Return which pixels of an image, or of a part of one, have no data in any band.

    Args:
        samples: Its numbers without alpha, (H, W, S).
        stored: What `read_stored` says of the image.
        read_hidden: Returns which of these pixels the mask in the file hides, (H, W) bool, where there is one.
    Shapes:
        out (H, W) bool.
    """
    is_missing = np.asarray(find_empty(samples, stored.nodata).all(axis=2))
    return is_missing | read_hidden() if stored.has_mask else is_missing


def measure_samples(samples: np.ndarray, is_missing: np.ndarray, num_pages: int) -> ImageTraits:
    """Return the traits of an image that is no photo, shown from its darkest values to its brightest.

    Args:
        samples: Its numbers without alpha, (H, W, S).
        is_missing: Pixels without data, (H, W) bool.
        num_pages: See `ImageTraits`.
    """
    num_bands = samples.shape[2]
    seen = np.zeros((1, 1, num_bands), samples.dtype) if is_missing.all() else samples[~is_missing][:, None]
    seen = np.where(np.isfinite(seen), seen, 0)
    values = measure_values(seen)
    low, high = min(low for low, _ in values), max(high for _, high in values)
    visible = samples[..., :3] if num_bands >= 3 else samples[..., 0]
    shown = np.clip((np.nan_to_num(visible).astype(np.float64) - low) * (255.0 / ((high - low) or 1.0)), 0, 255)
    traits = compute_traits(Image.fromarray(shown.astype(np.uint8)), num_pages)
    bits = 8 * samples.dtype.itemsize
    return replace(traits, bits=bits, peak=float(seen.max()) if bits > 8 else 0, values=values if bits > 8 else ())


def find_empty(samples: np.ndarray, nodata: float | None) -> np.ndarray:
    """Return which values are no data: the value that stands for it, and what is no finite number.

    Args:
        samples: Values of an image.
        nodata: The value that stands for no data, or None; ignored if their type cannot hold it.
    Shapes:
        in any; out the same, bool.
    """
    is_empty = ~np.isfinite(samples) if samples.dtype.kind == "f" else np.zeros(samples.shape, dtype=bool)
    if nodata is None:
        return is_empty
    with np.errstate(invalid="ignore", over="ignore"):
        value = np.array(nodata).astype(samples.dtype)
    if samples.dtype.kind == "f" or value == nodata:
        is_empty |= samples == value
    return is_empty


def _read_stored_tiff(source: str | Path | bytes, page: int | None) -> StoredImage:
    name, tags = _name_tiff(source), read_tags(source, page)
    (num_bands, num_colours), dtype, photometric = count_bands(tags), read_dtype(tags), tags.get(PHOTOMETRIC)
    nodata, has_mask = read_nodata(tags), HAS_MASK in tags
    if photometric == PALETTE:
        return StoredImage(name, 4, 3, "uint8", is_photo=True, has_mask=has_mask)
    bits = tags.get(BITS, (1,))
    if len(set(bits if isinstance(bits, tuple) else (bits,))) > 1 or dtype.startswith("complex"):
        raise DataError(f"{name}: bands of different types or of complex numbers", "Save them as bands of one type.")
    is_small = dtype in ("uint1", "uint2", "uint4")
    if not (is_small or dtype in _TIFF_DTYPES) or num_bands < 1:
        raise DataError(
            f"{name}: {describe_count(num_bands, 'band')} of {dtype}, which is not read",
            "Save it with one band or more of 8, 16, 32 or 64 bits.",
        )
    is_photo = is_small or (
        dtype in ("uint8", "uint16") and (num_colours == 1 or (photometric not in (0, 1) and 3 <= num_bands <= 4))
    )
    has_fourth = is_photo and num_colours == 4 and photometric == RGB
    return StoredImage(
        name, num_bands, num_colours, "uint8" if is_small else dtype, is_photo, nodata, has_mask, has_fourth
    )


def _name_tiff(source: str | Path | bytes) -> str:
    return "image in memory" if isinstance(source, bytes) else str(source)


def _find_deep_png(source: ImageInput) -> int:
    """Return the samples of a PNG in colour of 16 bits, of which Pillow would keep 8; 0 for all else."""
    head = b""
    if isinstance(source, bytes):
        head = source[:26]
    elif isinstance(source, str | Path) and Path(source).is_file():
        with Path(source).open("rb") as file:
            head = file.read(26)
    is_deep = head.startswith(_PNG_MAGIC) and len(head) == 26 and head[24] == 16
    return _DEEP_PNG.get(head[25], 0) if is_deep else 0
