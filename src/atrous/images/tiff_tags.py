"""Tags of TIFFs, read without decoding any pixels and without the package that decodes them."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import TiffImagePlugin

from atrous.core.errors import DataError
from atrous.core.system_errors import describe_reason, raise_shortage
from atrous.core.words import describe_count
from atrous.images.traits import MOST_PAGES

WIDTH, HEIGHT, BITS, PHOTOMETRIC, ORIENTATION, NUM_BANDS, EXTRA_SAMPLES, SAMPLE_FORMAT, NODATA = (
    256,
    257,
    258,
    262,
    274,
    277,
    338,
    339,
    42113,
)
"""Codes of tags; the last one is GDAL's, for the value that stands for no data."""
MOST_PX = 178_956_970
"""Pixels of a page that is read as a whole, as many as Pillow reads of any file."""
AS_TILES = "Save it in tiles: gdal_translate -co TILED=YES -co COMPRESS=DEFLATE -co BIGTIFF=IF_SAFER IN OUT.tif."
RGB, PALETTE = 2, 3
"""Photometric interpretations."""
_NEEDED, _SINGLE = (WIDTH, HEIGHT), (PHOTOMETRIC, ORIENTATION, NUM_BANDS)
_SEVERAL = (BITS, SAMPLE_FORMAT, EXTRA_SAMPLES)
"""Tags with one whole number for each band; those above have one."""
_SUBFILE, _REDUCED_OR_MASK, _MASK = 254, 5, 4
HAS_MASK = -1
"""Code under which `read_tags` says that a page has a mask: a page that says which of its pixels have data."""
_ALPHA = (1, 2)
"""Kinds of extra samples that are alpha; 0 is a band of no known kind."""
_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BIG, _BIG_ENDIAN_BIG = 43, b"MM\0+"
_KINDS = {1: "uint", 2: "int", 3: "float", 4: "uint"}

Tags = Mapping[int, Any]
"""Values of tags by their codes: numbers, tuples of them, texts or bytes."""


def is_tiff(source: object) -> bool:
    """Whether a path or bytes are a TIFF, by their first bytes; False for what cannot be read and for all else."""
    return _read_magic(source) in _MAGICS


def is_big_endian_bigtiff(source: object) -> bool:
    """Whether a path or bytes are a TIFF of the one kind whose directories Pillow takes for those of another kind."""
    return _read_magic(source) == _BIG_ENDIAN_BIG


def _read_magic(source: object) -> bytes:
    if isinstance(source, bytes):
        return source[:4]
    if not isinstance(source, str | Path):
        return b""
    try:
        with open(source, "rb", buffering=0) as file:  # asked of every image: pathlib and buffers would take longer
            return file.read(4)
    except (OSError, ValueError):  # ValueError: a zero byte in the path
        return b""


def read_tags(source: str | Path | bytes, page: int | None = None) -> Tags:
    """Read the tags of a page of a TIFF.

    Args:
        source: A path, or the file as bytes.
        page: The page, from 1; overviews and masks of other pages do not count. None: the only one.
    Raises:
        DataError: The file is damaged, has several pages of which none is named, or has no such page.
    """
    name = str(source) if isinstance(source, str | Path) else "image in memory"
    with _open(source) as file, _naming(name):
        pages = list(_iter_pages(file))
    if page is None and len(pages) > 1:
        raise DataError(
            f"{name}: {describe_count(len(pages), 'page')}, and one image is wanted",
            "Name it: data.page: 1. Or save the page as a file of its own.",
            "multi-page-image",
        )
    require_page(name, page, len(pages))
    tags = pages[(page or 1) - 1]
    with _naming(name):
        _require_numbers(tags)
    return tags


def count_tiff_pages(source: str | Path | bytes) -> int:
    """Return how many pages a TIFF has, overviews and masks of other pages not counted.

    Raises:
        DataError: The file is damaged.
    """
    name = str(source) if isinstance(source, str | Path) else "image in memory"
    with _open(source) as file, _naming(name):
        return sum(1 for _ in _iter_pages(file))


def require_page(name: str, page: int | None, count: int) -> None:
    """Refuse a page that a file does not have.

    Args:
        name: Name of the file.
        page: The page, from 1, or None.
        count: How many pages there are.
    Raises:
        DataError: There are fewer pages.
    """
    if page is not None and page > count:
        raise DataError(
            f"{name}: {describe_count(count, 'page')}, and page {page} is wanted",
            f"Allowed for this file: data.page from 1 to {count}.",
        )


def read_dtype(tags: Tags) -> str:
    """Return the type of the samples as numpy names it, such as "uint16" or "uint1".

    Args:
        tags: Tags of the page.
    """
    bits, kind = tags.get(BITS, (1,)), tags.get(SAMPLE_FORMAT, (1,))
    return f"{_KINDS.get(_first(kind), 'complex')}{_first(bits)}"


def count_bands(tags: Tags) -> tuple[int, int]:
    """Return the number of bands, and that of the first of them that are no alpha.

    Args:
        tags: Tags of the page.
    """
    num_bands, extra = int(tags.get(NUM_BANDS, 1)), tags.get(EXTRA_SAMPLES, ())
    extra = extra if isinstance(extra, tuple) else (extra,)
    return num_bands, num_bands - bool(extra and extra[-1] in _ALPHA and num_bands > 1)


def read_nodata(tags: Tags) -> float | None:
    """Return the value that stands for no data, as GDAL writes it; None if none is named.

    Args:
        tags: Tags of the page.
    """
    try:
        return float(str(tags[NODATA]).strip("\0 ").split(" ")[0])
    except (KeyError, ValueError):
        return None


def _require_numbers(tags: Tags) -> None:
    for code in (*_NEEDED, *_SINGLE, *_SEVERAL):
        value = tags.get(code, None if code in _NEEDED else 1)
        values = value if code in _SEVERAL and isinstance(value, tuple) else (value,)
        if not all(isinstance(number, int) for number in values) or not (values or code == EXTRA_SAMPLES):
            raise ValueError(f"its tag {code} holds no whole number")


def _first(value: Any) -> int:
    return int(value[0] if isinstance(value, tuple) else value)


@contextmanager
def _open(source: str | Path | bytes) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    try:
        file = Path(source).open("rb")
    except OSError as error:
        raise DataError(f"{source}: cannot be read: {error.strerror}", "Check the file and its permissions.") from error
    with file:
        yield file


@contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a damaged file may break anything here
        raise_shortage(error, name)
        raise DataError(
            f"{name}: cannot be decoded: {describe_reason(error)}", "Replace the file, or remove it with its pair."
        ) from error


def _iter_pages(file: BinaryIO) -> Iterator[Tags]:
    """Yield the tags of each page that is neither an overview nor a mask of another one, at most `MOST_PAGES`.

    Those of a page say that it has a mask once the pages after it have been read.
    """
    head = file.read(8)
    if _BIG in (head[2], head[3]):
        head += file.read(8)
    prefix = None
    if head[:4] == _BIG_ENDIAN_BIG:  # Pillow tells that offsets have 64 bits by the third byte alone
        head, prefix = b"II+\0" + head[4:], head[:2]
    directory = TiffImagePlugin.ImageFileDirectory_v2(head, prefix)
    seen: set[int] = set()
    position, found, page = directory.next, 0, dict[int, Any]()
    while position and position not in seen and found < MOST_PAGES:
        seen.add(position)
        file.seek(position)
        directory = TiffImagePlugin.ImageFileDirectory_v2(head, prefix)
        directory.load(file)
        tags = dict(directory)
        kind = int(tags.get(_SUBFILE, 0)) & _REDUCED_OR_MASK
        if not found or not kind:
            found, page = found + 1, tags
            yield tags
        elif kind == _MASK and all(tags.get(code) == page.get(code) for code in _NEEDED):
            page[HAS_MASK] = True
        position = directory.next
    if not found:
        raise ValueError("no page in it")


def turn_upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return an image as its orientation says that it is shown.

    Args:
        pixels: The image as stored, (H, W, ...).
        orientation: From 1 (as it is) to 8, as EXIF numbers them; all else means nothing.
    """
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels
