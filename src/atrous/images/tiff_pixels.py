"""Pixels of TIFFs by the package that reads all of them: many Pillow does not open, and some it decodes wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from atrous.core.errors import DataError, MachineError
from atrous.core.install import describe_install
from atrous.images.stored_values import refuse_lossy_tiff, take_numbers
from atrous.images.tiff_tags import (
    HAS_MASK,
    NUM_BANDS,
    ORIENTATION,
    PALETTE,
    PHOTOMETRIC,
    RGB,
    Tags,
    count_bands,
    read_dtype,
    turn_upright,
)

COMPRESSION, PLANES, STRIP_BYTES, TILE_BYTES = 259, 284, 279, 325
"""Codes of tags: how pixels are compressed, whether each band is stored on its own, and the size of each part."""
_SEPARATE = 2
_WHITE_IS_ZERO, _YCBCR, _JPEG = 0, 6, 7


def is_misread(tags: Tags) -> bool:
    """Whether Pillow decodes a TIFF wrongly, where it opens it, or fails at a mask or at tiles that are not stored.

    It swaps bytes or joins two numbers in silence.

    Args:
        tags: Tags of the page.
    """
    if tags.get(PHOTOMETRIC) == PALETTE:
        return False
    sizes = tags.get(TILE_BYTES) or tags.get(STRIP_BYTES) or ()
    if HAS_MASK in tags or 0 in (sizes if isinstance(sizes, tuple) else (sizes,)):
        return True
    dtype = read_dtype(tags)
    if dtype == "uint16":
        return bool(tags.get(PLANES) == _SEPARATE)
    return dtype not in ("uint1", "uint2", "uint4", "uint8")


def load_tiff(source: str | Path | bytes, page: int | None = None) -> np.ndarray:
    """Decode all samples of a page, (H, W, S), not turned.

    Args:
        source: A path, or the file as bytes.
        page: The page, from 1. None: the first one.
    Raises:
        DataError: The file is broken or hostile, or of a kind that is not read.
        MachineError: Not enough memory, or the package is not installed.
    """
    with _naming_package(source):
        from atrous.images.tiff import read_page
    return read_page(source, page)


def load_tiff_mask(source: str | Path | bytes, tags: Tags, page: int | None = None) -> np.ndarray:
    """Return which pixels of a page have no data, as its mask in the file says, upright.

    Args:
        source: A path, or the file as bytes.
        tags: Tags of the page, which has a mask.
        page: The page, from 1. None: the first one.
    Shapes:
        out (H, W) bool.
    Raises:
        DataError, MachineError: As `load_tiff`.
    """
    with _naming_package(source):
        from atrous.images.tiff import read_hidden
    return turn_upright(read_hidden(source, page), int(tags.get(ORIENTATION, 1)))


@contextmanager
def _naming_package(source: str | Path | bytes) -> Iterator[None]:
    """Name the package that is not installed, and what installs it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "atrous":
            raise
        name = "image in memory" if isinstance(source, bytes) else source
        raise MachineError(
            f"{name}: TIFFs of other than 8-bit RGB or grey need the package {error.name}",
            describe_install(error.name, "tiff"),
        ) from error


def load_tiff_photo(source: str | Path | bytes, tags: Tags, page: int | None = None) -> np.ndarray | None:
    """Decode a TIFF that is grey or RGB, of 8 or 16 bits, upright and with 0 as black.

    Args:
        source: A path, or the file as bytes.
        tags: Tags of the page.
        page: The page, from 1. None: the first one.
    Returns:
        (H, W) or (H, W, 3), uint8 or uint16; None if it is none of these.
    Raises:
        DataError, MachineError: As `load_tiff`.
    """
    num_bands, num_colours = count_bands(tags)
    photometric = tags.get(PHOTOMETRIC)
    is_jpeg = photometric == _YCBCR and tags.get(COMPRESSION) == _JPEG
    is_rgb = (photometric == RGB or is_jpeg) and num_bands in (3, 4)
    is_grey = photometric in (_WHITE_IS_ZERO, 1) and num_colours == 1
    if read_dtype(tags) not in ("uint8", "uint16") or not (is_rgb or is_grey):
        return None
    samples = turn_upright(load_tiff(source, page), int(tags.get(ORIENTATION, 1)))
    pixels = samples[..., :3] if is_rgb else samples[..., 0]
    return np.iinfo(pixels.dtype).max - pixels if photometric == _WHITE_IS_ZERO else pixels


def load_tiff_numbers(source: str | Path | bytes, tags: Tags, name: str) -> np.ndarray:
    """Decode the numbers of a mask as `read_numbers` returns them.

    Args:
        source: A path, or the file as bytes.
        tags: Tags of its page.
        name: Its name for messages.
    Shapes:
        out (H, W) integers.
    Raises:
        DataError: As `load_tiff`; or the mask is compressed with losses, in colour, or holds fractions.
        MachineError: As `load_tiff`.
    """
    refuse_lossy_tiff(tags.get(COMPRESSION), name)
    samples = load_tiff(source)
    if samples.shape[2] != tags.get(NUM_BANDS, 1):
        raise DataError(f"{name}: its tags contradict each other in the number of bands", "Replace the file.")
    return take_numbers(samples, name)
