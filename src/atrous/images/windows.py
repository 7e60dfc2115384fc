"""Windows of TIFFs larger than memory, each equal to the same part of the whole image. Nothing else is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from atrous.core.errors import DataError, MachineError
from atrous.core.inputs import PHOTO, ImageForm
from atrous.core.install import describe_install
from atrous.images.bands import Bands, build_bands, require_form
from atrous.images.decode import ImageHeader, build_header
from atrous.images.samples import StoredImage, describe_stored, find_missing, measure_samples, read_stored
from atrous.images.stored_values import StoredMask, refuse_lossy_tiff, take_colours, take_numbers
from atrous.images.tiff_tags import read_tags
from atrous.images.traits import ImageTraits, compute_traits

if TYPE_CHECKING:
    from atrous.images.tiff import TiffImage


@dataclass(frozen=True, slots=True)
class Window:
    """A part of an image that is larger than memory, in pixels.

    Args:
        top: Its first row.
        left: Its first column.
        height: Its rows, >= 1.
        width: Its columns, >= 1.
        whole: Height and width of the image; a file of another size is refused.
    """

    top: int
    left: int
    height: int
    width: int
    whole: tuple[int, int]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width

    @property
    def rows(self) -> slice:
        """Rows of the image."""
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        """Columns of the image."""
        return slice(self.left, self.left + self.width)

    @property
    def label(self) -> str:
        """Return what tells it from the other windows of the image, such as "@y0x2048"."""
        return f"@y{self.top}x{self.left}"

    def cut(self, rows: slice, columns: slice) -> Window:
        """Return a part of the window.

        Args:
            rows: Rows of the window, with explicit start and stop.
            columns: Its columns likewise.
        """
        height, width = rows.stop - rows.start, columns.stop - columns.start
        return Window(self.top + rows.start, self.left + columns.start, height, width, self.whole)


@dataclass(frozen=True)
class RasterImage:
    """An image larger than memory that is read in the form of a network; see `open_raster`.

    Args:
        form: Which bands, of which type.
        stored: What its header says.
        tiff: The opened TIFF.
    """

    form: ImageForm
    stored: StoredImage
    tiff: TiffImage

    def read(self, rows: slice, columns: slice) -> Bands:
        """Return a part of what `load_bands` gives for the whole image.

        Args:
            rows: Rows of the part, with explicit start and stop.
            columns: Its columns likewise.
        Raises:
            DataError: The file is damaged.
        """
        samples = self.tiff.read_samples(rows, columns)

        def read_photo(as_stored: bool) -> np.ndarray:
            return self.tiff.convert_stored(samples) if as_stored else self.tiff.convert(samples)

        return build_bands(
            self.stored,
            self.form,
            read_photo,
            read_samples=lambda: samples,
            read_hidden=lambda: self.tiff.read_hidden(rows, columns),
        )


@contextmanager
def open_raster(path: Path, form: ImageForm = PHOTO, *, keeps_rows: bool = False) -> Iterator[RasterImage]:
    """Open an image larger than memory for a block.

    Args:
        path: The TIFF.
        form: Which bands, of which type.
        keeps_rows: See `TiffImage`.
    Raises:
        DataError: The file is damaged, cannot be read in parts, or has other bands than the form.
        MachineError: The package that reads TIFFs in parts is not installed.
    """
    stored = require_form(path, form)
    with open_tiff(path, form.page, keeps_rows=keeps_rows) as tiff:
        if form.is_photo and stored.is_photo:
            tiff.require_photo()
        yield RasterImage(form, stored, tiff)


def open_tiff(path: Path, page: int | None = None, *, keeps_rows: bool = False) -> TiffImage:
    """Open a TIFF that is read in parts; see `TiffImage`.

    Args:
        path: The file.
        page: Its page, from 1. None: the first one.
        keeps_rows: See `TiffImage`.
    Raises:
        DataError: The file is no TIFF, is damaged, or cannot be read in parts.
        MachineError: The package that does it is not installed.
    """
    try:
        from atrous.images.tiff import TiffImage
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "atrous":
            raise
        raise MachineError(
            f"{path}: reading a part of a TIFF needs the package {error.name}", describe_install(error.name, "tiff")
        ) from error
    return TiffImage(path, page, keeps_rows=keeps_rows)


def load_window(path: Path, window: Window, form: ImageForm = PHOTO) -> Bands:
    """Read a part of an image into the form of a network: the same part of what `load_bands` gives for the whole.

    Args:
        path: The TIFF.
        window: The part.
        form: Which bands, of which type.
    Raises:
        DataError: As `open_raster`, or the image has another size than the window was made for.
        MachineError: Memory or a package is missing.
    """
    with open_raster(path, form) as image:
        _require_size(path, image.tiff, window)
        return image.read(window.rows, window.columns)


def load_mask_window(path: Path, window: Window, *, in_colours: bool = False) -> StoredMask:
    """Read a part of a mask: the same part of what `load_stored_mask` gives for the whole.

    Args:
        path: The TIFF.
        window: The part.
        in_colours: Whether the colours are wanted instead of the numbers.
    Raises:
        DataError: The file is no TIFF that is read in parts, has another size than its image, or holds no ids.
        MachineError: Memory or a package is missing.
    """
    with _open_window(path, window) as tiff:
        samples, palette = tiff.read_samples(window.rows, window.columns), tiff.palette
        refuse_lossy_tiff(tiff.compression, str(path))
        if in_colours:
            values = take_colours(samples, palette, str(path), is_inverted=tiff.is_inverted)
        else:
            values = take_numbers(samples, str(path))
    mode = "P" if palette is not None else f"{samples.shape[2]} x {samples.dtype}"
    return StoredMask(values, mode, b"" if palette is None else palette.tobytes())


def inspect_window(path: Path, window: Window) -> tuple[ImageHeader, ImageTraits]:
    """Read a part of an image, and return its header and its traits as `inspect_image` does for whole images.

    Args:
        path: The TIFF.
        window: The part.
    Raises:
        DataError: As `load_window`.
        MachineError: Memory or a package is missing.
    """
    stored = read_stored(path, page=1)
    with _open_window(path, window) as tiff:
        if stored.is_photo:
            tiff.require_photo()
        samples = tiff.read_samples(window.rows, window.columns)
        shown = Image.fromarray(tiff.convert(samples)) if stored.is_photo else None
        samples = samples[..., : stored.num_colours]
        is_missing = find_missing(samples, stored, lambda: tiff.read_hidden(window.rows, window.columns))
    if stored.is_photo and stored.dtype == "uint16" and stored.num_colours == 1:
        shown = Image.fromarray(samples[..., 0])
    traits = measure_samples(samples, is_missing, 1) if shown is None else compute_traits(shown, 1)
    known = describe_stored(path, stored) | {"missing": float(is_missing.mean()), "fingerprint": 0}
    mode = shown.mode if shown is not None else build_header(read_tags(path, page=1)).mode
    return ImageHeader(*window.size, mode, is_turned=False), replace(traits, **known)


@contextmanager
def _open_window(path: Path, window: Window) -> Iterator[TiffImage]:
    with open_tiff(path, page=1) as tiff:
        _require_size(path, tiff, window)
        yield tiff


def _require_size(path: Path, tiff: TiffImage, window: Window) -> None:
    if (tiff.height, tiff.width) != window.whole:
        raise DataError(
            f"{path} is {tiff.height}x{tiff.width} (height x width), its image is {window.whole[0]}x{window.whole[1]}",
            "Masks are never resized to fit: export them again at the size of the image.",
            "size-mismatch",
        )
