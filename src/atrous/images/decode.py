"""The one decoder of images and masks: files, bytes, streams, PIL images and arrays become arrays.

Images become (H, W, 3) uint8 RGB: the EXIF orientation is applied, grey is repeated, alpha is dropped (colours under
transparent pixels stay as stored), and colours of a profile other than sRGB are converted to it. Of 16 bits, grey is
divided by 257 and rounded; of colours the upper byte is kept, as Pillow does. AVIF, HEIF and JPEG XL are read by
`extra_formats`. Masks become (H, W) ids and are never rotated.

Every guard against broken and hostile input is in `open_image`: allowed formats, decompression bombs, truncated files
and metadata that a decoder cannot parse.
"""

from __future__ import annotations

import io
import math
import re
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from atrous.core.errors import DataError, MachineError, UsageError
from atrous.core.paths import refuse_empty
from atrous.core.system_errors import describe_reason, raise_shortage
from atrous.core.words import describe_count
from atrous.images.extra_formats import EXTRA_SUFFIXES, open_extra
from atrous.images.file_kinds import identify_format
from atrous.images.plain import decode_plain_jpeg, load_bare_jpeg, load_plain_indices, read_opened
from atrous.images.profile import convert_to_srgb, has_other_colours
from atrous.images.stored_values import StoredMask, read_colours, read_numbers
from atrous.images.tiff_pixels import is_misread, load_tiff_numbers, load_tiff_photo
from atrous.images.tiff_tags import (
    HEIGHT,
    NUM_BANDS,
    WIDTH,
    Tags,
    count_tiff_pages,
    is_big_endian_bigtiff,
    is_tiff,
    read_dtype,
    read_tags,
    require_page,
    turn_upright,
)
from atrous.images.traits import ImageTraits, compute_traits, count_pages, list_pages

ImageInput = str | Path | bytes | BinaryIO | Image.Image | np.ndarray
"""Anything that holds one image: a path, an encoded file in memory, a binary stream, a PIL image or its pixels."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", *EXTRA_SUFFIXES})
"""File suffixes of images and masks, in lower case."""

HUGE_PX = 64_000_000
"""TIFFs with more pixels are read in parts, never whole. Pillow warns above 89 million pixels and refuses 179."""

_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM")
_SWAPPING_ORIENTATIONS = (5, 6, 7, 8)
_BROKEN = "Replace the file, or remove it with its pair."
_TIFF_TYPES = {"uint": "unsigned", "int": "signed", "float": "float", "complex": "complex float"}
"""Kinds of numbers in a TIFF, by numpy's name."""
_PROFILE_TAG = 34675
_ARRAY_SHAPES = "(H, W), (H, W, 3) or (H, W, 4)"


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the header of an image says, read without decoding the pixels.

    Args:
        height: Height in pixels after the EXIF orientation has been applied.
        width: Width in pixels, likewise.
        mode: Pillow's mode of the stored pixels, such as "RGB", "P" or "I;16".
        is_turned: Whether the EXIF orientation rotates or mirrors the image.
    """

    height: int
    width: int
    mode: str
    is_turned: bool


def load_image(source: ImageInput, page: int | None = None, *, as_stored: bool = False) -> np.ndarray:
    """Decode an image as a viewer would show it.

    A path, its bytes, a stream of them, the PIL image and the array of its pixels give the same result; an array has
    neither palette nor EXIF orientation, so both must have been applied to it.

    Args:
        source: A path, an encoded file as bytes or as a binary stream (read from its position to the end), a PIL
            image, or an array of uint8 or uint16: (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA.
        page: Page of a file with several, from 1. None: such files are refused.
        as_stored: Whether colours of a profile other than sRGB stay as they are.
    Returns:
        (H, W, 3) uint8 RGB.
    Raises:
        DataError: The file is missing, broken or hostile, has several pages, or does not hold 8 or 16 bits per channel.
        UsageError: An array of another shape or dtype, or an object of another type.
        MachineError: Not enough memory to decode it.
    """
    if isinstance(source, np.ndarray):
        return _convert_array(source)
    if page in (None, 1) and (pixels := load_bare_jpeg(source)) is not None:
        return pixels
    if unread := _find_unread(source, page):
        if page is None:
            _require_one_page(count_tiff_pages(unread.file), _name_source(source), "image")
        if (found := _build_unread_photo(unread, page)) is not None:
            return _convert_photo(found, as_stored=as_stored)
    with open_image(source) as (image, name):
        choose_page(source, image, name, page)
        _require_known_range(image, name)
        if isinstance(source, Image.Image):
            image = ImageOps.exif_transpose(image)  # a copy: the caller's image stays as it is, and at its page
        elif (as_stored or not has_other_colours(image)) and (pixels := _decode_jpeg(image)) is not None:
            return np.ascontiguousarray(turn_upright(pixels, image.getexif().get(ExifTags.Base.Orientation, 1)))
        else:
            ImageOps.exif_transpose(image, in_place=True)
        return _convert_photo(image, as_stored=as_stored)


def _decode_jpeg(image: Image.Image) -> np.ndarray | None:
    """Return the pixels of an opened JPEG as stored, (H, W, 3) uint8; None if Pillow has to decode them."""
    is_usual = image.format == "JPEG" and image.mode in ("RGB", "L")
    return decode_plain_jpeg(read_opened(image)) if is_usual else None


def _convert_photo(image: Image.Image, *, as_stored: bool) -> np.ndarray:
    """Return an upright image as (H, W, 3) uint8; without its profile if colours stay as stored."""
    if image.mode.startswith("I;16"):
        return _convert_array(np.asarray(image).astype(np.uint16))
    if as_stored:
        image.info.pop("icc_profile", None)
    return np.array(convert_to_srgb(image))


def load_mask(source: ImageInput) -> np.ndarray:
    """Decode a mask to the numbers that it stores, as `read_numbers` describes; no EXIF rotation.

    Args:
        source: As for `load_image`; an array holds the ids themselves, (H, W) uint8 or uint16.
    Returns:
        (H, W) integers; uint8 or uint16 unless a number is negative or above 65535.
    Raises:
        DataError: The file is missing, broken or hostile, a JPEG, in colour, or holds numbers that are not whole.
        UsageError: An array of another shape or dtype, or an object of another type.
        MachineError: Not enough memory to decode it.
    """
    if isinstance(source, np.ndarray):
        if source.ndim != 2 or source.dtype not in (np.uint8, np.uint16):
            raise UsageError(
                f"cannot read {_describe_value(source)} as a mask", "Give an array (H, W) of uint8 or uint16."
            )
        return source
    if (indices := load_plain_indices(source)) is not None:
        return indices
    if unread := _find_unread(source, 1):
        return _load_unread_mask(unread, _name_source(source))
    with open_image(source) as (image, name):
        _refuse_pages(source, image, name)
        return read_numbers(image, name)


def load_mask_colours(source: ImageInput) -> np.ndarray:
    """Decode a mask to the colours that it stores, as `read_colours` describes; no EXIF rotation.

    Args:
        source: A path, an encoded file as bytes or as a binary stream, or a PIL image.
    Returns:
        (H, W) uint32, red * 65536 + green * 256 + blue.
    Raises:
        DataError: The file is missing, broken or hostile, a JPEG, or has more than 8 bits per channel.
        UsageError: An object of another type.
        MachineError: Not enough memory to decode it.
    """
    with open_image(source) as (image, name):
        _refuse_pages(source, image, name)
        return read_colours(image, name)


def load_stored_mask(path: Path, *, content: bytes | None = None, in_colours: bool = False) -> StoredMask:
    """Decode a mask with its palette, the file opened once; see `load_mask` and `load_mask_colours`.

    Args:
        path: The file.
        content: The bytes of the file, if they have been read.
        in_colours: Whether the colours are wanted instead of the numbers.
    Raises:
        DataError: As `load_mask` or `load_mask_colours`.
        MachineError: Not enough memory to decode it.
    """
    stored = path if content is None else content
    if not in_colours and (unread := _find_unread(stored, 1)):
        values = _load_unread_mask(unread, str(path))
        return StoredMask(values, "F" if read_dtype(unread.tags).startswith("float") else "I", b"")
    with open_image(path, content) as (image, name):
        _refuse_pages(path, image, name)
        mode, palette = image.mode, b""
        if mode == "P" and image.palette is not None:
            form, colours = image.palette.getdata()  # without decoding the pixels, which `getpalette` does
            palette = bytes(colours if form == "RGB" else image.getpalette("RGB") or [])
        return StoredMask(read_colours(image, name) if in_colours else read_numbers(image, name), mode, palette)


def load_header(source: ImageInput) -> ImageHeader:
    """Read the size and mode of an image without decoding its pixels.

    Raises:
        DataError: The file is missing or not an image.
        UsageError: An array, which has no header, or an object of another type.
    """
    try:
        with open_image(source) as (image, _):
            return _read_header(image)
    except DataError as error:  # Pillow does not open TIFFs of any number of bands
        is_unknown = isinstance(error.__cause__, UnidentifiedImageError)
        if not (is_unknown and isinstance(source, str | Path | bytes) and is_tiff(source)):
            raise
        return build_header(read_tags(source, page=1))


def build_header(tags: Tags) -> ImageHeader:
    """Return the header of a TIFF that Pillow does not open.

    Args:
        tags: Tags of its page.
    """
    height, width = int(tags[HEIGHT]), int(tags[WIDTH])
    orientation = int(tags.get(ExifTags.Base.Orientation, 1))
    if orientation in _SWAPPING_ORIENTATIONS:
        height, width = width, height
    mode = f"{describe_count(int(tags.get(NUM_BANDS, 1)), 'band')} of {read_dtype(tags)}"
    return ImageHeader(height, width, mode, orientation in (2, 3, 4, *_SWAPPING_ORIENTATIONS))


def check_image(source: ImageInput, *, content: bytes | None = None) -> tuple[ImageHeader, ImageTraits]:
    """Read an image to its last byte, as `load_image` would, and return its header and its traits.

    Args:
        source: As for `load_image`.
        content: The bytes of the file, if they have been read.
    Raises:
        DataError: `load_image` cannot read it: the file is missing, truncated or damaged, or of an unknown range.
        UsageError: An array, which has no header, or an object of another type.
        MachineError: Not enough memory to decode it.
    """
    stored = source if content is None else content
    if (unread := _find_unread(stored, 1)) and (photo := _build_unread_photo(unread, 1)) is not None:
        return build_header(unread.tags), compute_traits(photo, count_tiff_pages(unread.file))
    with open_image(source, content) as (image, name):
        _require_known_range(image, name)
        header, num_pages = _read_header(image), count_pages(image)
        if image.format in ("JPEG", "MPO"):  # a HEIF file would give a thumbnail, and hide damage to the image itself
            image.draft(None, (1, 1))  # a JPEG is decoded at an eighth of its size, which is faster
        image.load()
        return header, compute_traits(image, num_pages)


def _read_header(image: Image.Image) -> ImageHeader:
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    height, width = image.height, image.width
    if orientation in _SWAPPING_ORIENTATIONS:
        height, width = width, height
    return ImageHeader(height, width, image.mode, orientation in (2, 3, 4, *_SWAPPING_ORIENTATIONS))


def _require_known_range(image: Image.Image, name: str) -> None:
    if image.mode in ("I", "F"):
        raise DataError(
            f"{name}: 32 bits per pixel, whose value range is unknown", "Save the image with 8 or 16 bits a channel."
        )


class _Unread(NamedTuple):
    """A TIFF that Pillow does not open, or decodes wrongly."""

    file: str | Path | bytes
    tags: Tags


def _find_unread(source: object, page: int | None) -> _Unread | None:
    """Return a TIFF that Pillow does not open, or decodes wrongly; None of all else, damaged files too."""
    if not (isinstance(source, str | Path | bytes) and is_tiff(source)):
        return None
    try:
        tags = read_tags(source, page or 1)
    except DataError:
        return None
    if is_misread(tags):
        return _Unread(source, tags)
    try:
        with open_image(source):
            return None
    except DataError as error:
        return _Unread(source, tags) if isinstance(error.__cause__, UnidentifiedImageError) else None


def _build_unread_photo(unread: _Unread, page: int | None) -> Image.Image | None:
    """Return an upright photo of 8 bits, or of 16 bits grey, with its profile; None if the TIFF is no photo."""
    pixels = load_tiff_photo(*unread, page)
    if pixels is None:
        return None
    is_deep = pixels.ndim == 3 and pixels.dtype == np.uint16
    image = Image.fromarray((pixels >> 8).astype(np.uint8) if is_deep else np.ascontiguousarray(pixels))
    if profile := unread.tags.get(_PROFILE_TAG):
        image.info["icc_profile"] = bytes(profile)
    return image


def _load_unread_mask(unread: _Unread, name: str) -> np.ndarray:
    _require_one_page(count_tiff_pages(unread.file), name, "mask")
    return load_tiff_numbers(*unread, name)


def _refuse_pages(source: ImageInput, image: Image.Image, name: str, kind: str = "mask") -> None:
    """Refuse a file of which only the first of several pages would be read; a PIL image shows one of its pages."""
    if not isinstance(source, Image.Image):
        _require_one_page(count_pages(image), name, kind)


def _require_one_page(num_pages: int, name: str, kind: str) -> None:
    if num_pages > 1:
        raise DataError(
            f"{name}: {describe_count(num_pages, 'page')} or frames, and one {kind} is wanted",
            "Save the page as a file of its own; in Python it may be a PIL image.",
            f"multi-page-{kind}",
        )


def choose_page(source: ImageInput, image: Image.Image, name: str, page: int | None) -> None:
    """Turn an opened file to one of its pages or frames; a PIL image stays at the page that it shows.

    Args:
        source: What was opened.
        image: The opened file.
        name: Its name for messages.
        page: The page, from 1. None: the only one.
    Raises:
        DataError: There is no such page, or there are several and none is named.
    """
    if page is None:
        _refuse_pages(source, image, name, "image")
    elif not isinstance(source, Image.Image):
        numbers = list_pages(image)
        require_page(name, page, len(numbers))
        image.seek(numbers[page - 1])  # page 1 too: a HEIF file opens at the one that it calls its primary image


def is_huge_tiff(path: Path, limit: int | None = None) -> bool:
    """Whether a file is a TIFF with many pixels, judged by its header; Pillow might refuse to open it.

    False for a file that cannot be read; loading it reports what is wrong.

    Args:
        path: The file.
        limit: How many pixels are not many yet. Default: `HUGE_PX`.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        return False
    try:
        with path.open("rb") as file:
            return math.prod(_read_tiff_sides(file)) > (HUGE_PX if limit is None else limit)
    except (OSError, OverflowError, KeyError, struct.error):
        return False


def _read_tiff_sides(file: BinaryIO) -> tuple[int, int]:
    """Read the width and height of the first page of a TIFF or BigTIFF from its header."""
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


@contextmanager
def open_image(source: ImageInput, content: bytes | None = None) -> Iterator[tuple[Image.Image, str]]:
    """Open a source, yield it with its name for messages, and turn whatever a decoder raises into one error.

    Args:
        source: What `load_image` takes, but no array.
        content: The bytes of the file, if they have been read.
    Raises:
        DataError: The file is missing, not an image, broken or hostile.
        UsageError: An object of another type.
        MachineError: Not enough memory to decode it.
    """
    name = _name_source(source)
    try:
        if isinstance(source, Image.Image):
            yield source, name
        else:
            ignore_size_warnings()
            file = _as_file(source) if content is None else io.BytesIO(content)
            with _open_file(file, name) as image:
                yield image, name
    except (DataError, UsageError, MachineError):
        raise
    except FileNotFoundError as error:
        is_link = isinstance(source, str | Path) and Path(source).is_symlink()
        raise DataError(f"{name}: {'a link that leads nowhere' if is_link else 'no such file'}") from error
    except Image.DecompressionBombError as error:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        raise DataError(
            f"{name}: more than {most} megapixels",
            "Cut the image into tiles. `atrous predict` labels a TIFF of this size as it is, in parts: save it as one.",
        ) from error
    except UnidentifiedImageError as error:
        is_empty = isinstance(source, str | Path) and Path(source).stat().st_size == 0
        raise DataError(
            f"{name}: {'an empty file' if is_empty else _describe_unknown(source)}",
            _BROKEN
            if is_empty
            else f"Save it as PNG or JPEG. Suffixes that are read: {', '.join(sorted(IMAGE_SUFFIXES))}.",
        ) from error
    except OSError as error:
        raise_shortage(error, name)
        if error.errno is None:  # Pillow's own: a truncated or damaged file
            raise _describe_broken(name, error) from error
        raise DataError(f"{name}: cannot be read: {error.strerror}", "Check the file and its permissions.") from error
    except Exception as error:  # a decoder may raise anything on a broken file; what matters is which file it was
        raise_shortage(error, name)
        raise _describe_broken(name, error) from error


def _open_file(file: Path | io.BytesIO, name: str) -> Image.Image:
    if is_big_endian_bigtiff(file if isinstance(file, Path) else file.getbuffer()[:4].tobytes()):
        raise UnidentifiedImageError  # Pillow would misread its directory
    try:
        return Image.open(file, formats=_FORMATS)
    except UnidentifiedImageError:
        if (image := open_extra(file, name)) is None:
            raise
        return image


def _describe_unknown(source: ImageInput) -> str:
    """Return what is known of a file that is not opened: its format, or of a TIFF its bands and their type."""
    with suppress(Exception):  # a damaged file may break anything here
        if isinstance(source, str | Path):
            if kind := identify_format(Path(source)):
                return f"{kind}, which is not read"
            tags = read_tags(source, page=1)
            kind, bits = re.findall("[a-z]+|[0-9]+", read_dtype(tags))
            bands = describe_count(int(tags.get(NUM_BANDS, 1)), "band")
            return f"a TIFF of {bands} of {bits}-bit {_TIFF_TYPES[kind]} numbers, which is not read"
    return "not an image that can be read"


def ignore_size_warnings() -> None:
    """Keep Pillow from warning that an image is large: it is read, or refused by one error.

    This holds for the process, as every filter of warnings does: one that is put back later would meet other threads.
    Filters of the caller's own, such as one that makes errors of these warnings, come first.
    """
    category = Image.DecompressionBombWarning
    if ("ignore", None, category, None, 0) not in warnings.filters:
        warnings.simplefilter("ignore", category, append=True)


def read_bytes(source: str | Path | bytes | BinaryIO) -> bytes:
    """Return the encoded file that a path, bytes or a stream hold.

    Raises:
        UsageError: An object of another type.
    """
    file = _as_file(source)
    return file.read_bytes() if isinstance(file, Path) else file.getvalue()


def _as_file(source: str | Path | bytes | BinaryIO | np.ndarray) -> Path | io.BytesIO:
    if isinstance(source, str | Path):
        refuse_empty(source, "the path of an image")
        return Path(source)
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if isinstance(source, np.ndarray) or not callable(getattr(source, "read", None)):
        raise UsageError(
            f"cannot read {_describe_value(source)} as an image",
            f"Give a path, bytes, a binary stream, a PIL image, or an array {_ARRAY_SHAPES} of uint8 or uint16.",
        )
    return io.BytesIO(source.read())


def _name_source(source: ImageInput) -> str:
    if isinstance(source, str | Path):
        return str(source)
    name = getattr(source, "filename", None) or getattr(source, "name", None)
    return name if isinstance(name, str) else "image in memory"


def _describe_value(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} {value.shape}"
    return f"an object of type {type(value).__name__}"


def _describe_broken(name: str, error: Exception) -> DataError:
    reason = describe_reason(error)
    return DataError(
        f"{name}: cannot be decoded: {reason}", _BROKEN, "truncated-image" if "truncated" in reason else ""
    )


def _convert_array(pixels: np.ndarray) -> np.ndarray:
    """Return pixels as (H, W, 3) uint8, by the rules of the module."""
    is_grey = pixels.ndim == 2
    is_colour = pixels.ndim == 3 and pixels.shape[2] in (3, 4)
    if not (is_grey or is_colour) or pixels.dtype not in (np.uint8, np.uint16) or not pixels.size:
        raise UsageError(
            f"cannot read {_describe_value(pixels)} as an image",
            f"Give an array {_ARRAY_SHAPES} of uint8 or uint16, not empty.",
        )
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257 if is_grey else pixels >> 8).astype(np.uint8)
    return np.stack([pixels] * 3, axis=-1) if is_grey else np.ascontiguousarray(pixels[..., :3])
