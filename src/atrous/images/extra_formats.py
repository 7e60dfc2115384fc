"""AVIF, HEIF and JPEG XL: formats of images, never of masks, whose packages are imported when a file needs them.

Their decoders turn images upright themselves or say the orientation as EXIF does. Colours of more than 8 bits become 8.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from atrous.core.errors import DataError
from atrous.core.install import describe_install
from atrous.images.file_kinds import LONGEST_START, identify_start
from atrous.images.jxl_header import read_jxl_header

EXTRA_SUFFIXES = (".avif", ".heic", ".heif", ".hif", ".jxl")
EXTRA = "formats"
"""The optional dependency group of their packages."""
MISSING_PACKAGE = "missing-package"
"""Code of the error about a file whose package is not installed: its hint is the command that installs it."""
_DAMAGED = "damaged or cut off"


def open_extra(file: Path | io.BytesIO, name: str) -> Image.Image | None:
    """Open a file that is of one of these formats; None for all others.

    Args:
        file: The file, read from its beginning.
        name: Its name for messages.
    Raises:
        DataError: The package that reads it is not installed.
        DecompressionBombError: It has more pixels than `Image.open` accepts.
        Exception: Whatever the package raises for a damaged file.
    """
    with file.open("rb") if isinstance(file, Path) else nullcontext(file) as stream:
        stream.seek(0)
        kind = identify_start(head := stream.read(LONGEST_START))
        if kind not in _OPENERS:
            return None
        content = head + stream.read()
    open_content, package = _OPENERS[kind]
    try:
        return open_content(content)
    except ImportError as error:
        raise DataError(
            f"{name}: {kind}, which is read with the package {package}",
            f"{describe_install(package, EXTRA)} - or save it as PNG.",
            MISSING_PACKAGE,
        ) from error


def _open_avif(content: bytes) -> Image.Image:
    from PIL import AvifImagePlugin  # since Pillow 11.3, and not in each build of it

    if not AvifImagePlugin.SUPPORTED:
        raise ImportError
    try:
        return Image.open(io.BytesIO(content), formats=("AVIF",))
    except UnidentifiedImageError as error:
        raise OSError(_DAMAGED) from error


def _open_heif(content: bytes) -> Image.Image:
    from pillow_heif import HeifImageFile

    image: Image.Image = HeifImageFile(io.BytesIO(content))  # its pixels are decoded later
    _refuse_bomb(image.width, image.height)
    return image


def _open_jxl(content: bytes) -> Image.Image:
    from pillow_jxl.JpegXLImagePlugin import JXLImageFile

    header = read_jxl_header(content)
    _refuse_bomb(header.width, header.height)  # here: the package decodes a file in order to open it
    if header.is_animated:
        raise ValueError("an animation, and one image is wanted")
    try:
        image: Image.Image = JXLImageFile(io.BytesIO(content))
    except RuntimeError as error:  # which says how to build the library
        raise OSError(_DAMAGED) from error
    if not getattr(image, "jpeg", False):  # all but a JPEG that was packed is upright, whatever its EXIF data say
        image.info.pop("exif", None)
    return image


def _refuse_bomb(width: int, height: int) -> None:
    """Refuse what `Image.open` refuses: more than twice the pixels of which it warns."""
    if Image.MAX_IMAGE_PIXELS is not None and width * height > 2 * Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError


_OPENERS: dict[str, tuple[Callable[[bytes], Image.Image], str]] = {
    "an AVIF image": (_open_avif, "pillow"),
    "an AVIF animation": (_open_avif, "pillow"),
    "a HEIC image": (_open_heif, "pillow-heif"),
    "a HEIF image": (_open_heif, "pillow-heif"),
    "a JPEG XL image": (_open_jxl, "pillow-jxl-plugin"),
}
"""What opens a file by what it is, and the package that this needs."""
