"""TIFFs read and written with tifffile: whole pages of any number of bands, and images larger than memory in parts."""

from __future__ import annotations

import io
import itertools
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import imagecodecs  # noqa: F401  tifffile decodes tiles with it and would only fail at the first one
import numpy as np
import tifffile
from tifffile import COMPRESSION, PHOTOMETRIC, PLANARCONFIG, TIFF

from atrous.core.errors import AtrousError, DataError
from atrous.core.files import atomic_path
from atrous.core.labels import LabelSpace
from atrous.core.system_errors import describe_reason, raise_shortage
from atrous.images.palette import build_colour_table
from atrous.images.profile import convert_pixels
from atrous.images.tiff_tags import AS_TILES, MOST_PX, NODATA, read_nodata

GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737, 50844)
"""Tags that georeference a GeoTIFF. GDAL's 42113 (no data) is not copied: it names a colour there, an id here."""
TILE_SIDE = 512
"""Side of the tiles that labels are written in, in pixels."""
ROWS_AT_ONCE = 256
"""Rows read at a time from an image without tiles and compression, whatever the length of its strips."""
MOST_BYTES_AT_ONCE = 2**29
"""Largest tile, or strip, that is decoded: either must be decoded whole."""
BIG_TIFF_BYTES = 2**32 - 2**25
"""Size of uncompressed labels above which the offsets in a TIFF need 64 bits."""

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # without any handler its warnings would be printed
_GREYS = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE)
_ORIENTATION, _REDUCED_OR_MASK, _MASK = 274, 5, 4

MOST_PAGE_BYTES = 2**34
"""Largest page that is decoded as a whole."""


def read_page(source: str | Path | bytes, page: int | None = None) -> np.ndarray:
    """Decode all samples of one page.

    Args:
        source: A path, or the file as bytes.
        page: The page, from 1, overviews and masks of other pages not counted. None: the first one.
    Returns:
        (H, W, S) as stored; missing tiles are the nodata value, or 0.
    Raises:
        DataError: The file is broken or hostile, or of a kind that is not read.
        MachineError: Not enough memory to decode it.
    """
    with TiffImage(source, page, in_parts=False) as image:
        return image.read_samples(slice(0, image.height), slice(0, image.width))


def read_hidden(source: str | Path | bytes, page: int | None = None) -> np.ndarray:
    """Return which pixels of a page have no data, as its mask in the file says, (H, W) bool.

    Args:
        source: A path, or the file as bytes.
        page: The page, which has a mask; see `read_page`.
    Raises:
        DataError, MachineError: As `read_page`.
    """
    with TiffImage(source, page, in_parts=False) as image:
        return image.read_hidden(slice(0, image.height), slice(0, image.width))


def _find_page(file: Any, page: int | None, *, is_mask: bool) -> Any:
    """Return a page, counted from 1 without overviews and masks of other pages, or its mask; None: the first page."""
    number, wanted = -1, page or 1
    while wanted:
        number += 1
        wanted -= number == 0 or not _find_kind(file, number)
    found = file.pages[number]
    if not is_mask:
        return found
    number += 1
    while _find_kind(file, number) != _MASK or file.pages[number].shape[:2] != (found.imagelength, found.imagewidth):
        number += 1
    return file.pages[number]


def _find_kind(file: Any, number: int) -> int:
    return int(getattr(file.pages[number], "subfiletype", 0)) & _REDUCED_OR_MASK


def _find_fill(page: Any) -> float | int:
    """Return the value of tiles that are not stored: the nodata value where the type can hold it, as GDAL has it."""
    nodata = read_nodata({NODATA: page.tags.valueof(NODATA)})
    if nodata is None or page.dtype.kind == "f":
        return nodata or 0.0
    low, high = (0, 1) if page.dtype.kind == "b" else (np.iinfo(page.dtype).min, np.iinfo(page.dtype).max)
    return int(nodata) if nodata == nodata // 1 and low <= nodata <= high else 0


def _require_decoder(page: Any, name: object) -> None:
    """Refuse compressions without a decoder, and LERC, whose missing values would be decoded as 0."""
    is_known = page.compression == COMPRESSION.NONE or page.compression in TIFF.DECOMPRESSORS
    if not is_known or page.compression == COMPRESSION.LERC:
        kind = getattr(page.compression, "name", page.compression)
        raise DataError(f"{name}: its compression {kind} cannot be decoded", AS_TILES)


@contextmanager
def _naming(name: object) -> Iterator[None]:
    """Turn whatever a decoder raises into one error that names the file."""
    try:
        yield
    except AtrousError:
        raise
    except Exception as error:  # a decoder may raise anything on a broken file; what matters is which file it was
        raise_shortage(error, str(name))
        raise DataError(f"{name}: cannot be decoded: {describe_reason(error)}", "Replace the file.") from error


GeoTag = tuple[int, int, int, bytes, bool]
"""A tag in the form that tifffile writes: code, type, number of values, their bytes, and whether it is written once."""


def _read_geo_tags(file: Any) -> list[GeoTag]:
    page = file.pages.first
    found = []
    for tag in (page.tags[code] for code in GEO_TAGS if code in page.tags):
        file.filehandle.seek(tag.valueoffset)
        found.append((tag.code, tag.dtype, tag.count, file.filehandle.read(tag.valuebytecount), True))
    return found


def save_placed_labels(
    path: Path, labels: np.ndarray, image: Path, label_space: LabelSpace | None = None, *, void_id: int | None = None
) -> None:
    """Write the ids of an image that is in memory as a TIFF with the georeference of its file.

    Args:
        path: The file; written atomically.
        labels: Ids, (H, W) uint8 or uint16.
        image: The GeoTIFF that was labelled.
        label_space: The classes, whose colours are the palette. Default: grey.
        void_id: The id of pixels without data, which is named as the nodata value; None if there are none.
    Raises:
        DataError: The GeoTIFF is broken.
    """
    with _naming(image), tifffile.TiffFile(image) as file:
        tags, byteorder = _read_geo_tags(file), file.byteorder
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            labels,
            **_describe_kind(labels.dtype, label_space),
            compression="zlib",
            byteorder=byteorder,
            metadata=None,
            software=False,
            extratags=[*tags, *_name_nodata(void_id)],
            maxworkers=1,
        )


def _name_nodata(void_id: int | None) -> list[tuple[int, str, int, str, bool]]:
    return [] if void_id is None else [(NODATA, "s", 0, str(void_id), True)]


def _describe_kind(dtype: np.dtype[Any], label_space: LabelSpace | None) -> dict[str, Any]:
    if dtype != np.uint8 or label_space is None:
        return {"photometric": "minisblack"}
    colours = build_colour_table(label_space, 256).T.astype(np.uint16) * 257  # (3, 256), of 16 bits
    return {"photometric": "palette", "colormap": colours}


class TiffImage:
    """A page of a TIFF, read a part at a time: only the tiles (or strips) that a part touches are decoded.

    `height` and `width` are in pixels.

    Args:
        source: A path, or the file as bytes.
        page: The page, from 1, overviews and masks of other pages not counted. None: the first one.
        keeps_rows: Whether decoded tiles are kept while the parts being read overlap their rows, so that an image that
            is read from top to bottom is decoded once.
        in_parts: Whether it is read in parts, and not as a whole, which is of limited size.
        is_mask: Whether the mask of the page is read, which it has.
    Raises:
        DataError: The file is broken, or cannot be read in parts or as a whole; also raised when a part is read.
    """

    def __init__(
        self,
        source: str | Path | bytes,
        page: int | None = None,
        *,
        keeps_rows: bool = False,
        in_parts: bool = True,
        is_mask: bool = False,
    ) -> None:
        self._source, self._number, self._in_parts = source, page, in_parts
        self._path = "image in memory" if isinstance(source, bytes) else str(source)
        self._keeps_rows = keeps_rows
        self._kept: dict[int, np.ndarray] = {}
        with _naming(self._path):
            self._file = tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else source)
        try:
            with _naming(self._path):
                self._page = _find_page(self._file, page, is_mask=is_mask)
                self._read_head()
                if in_parts:
                    self._require_parts()
                else:
                    self._require_fitting()
                self._require_whole()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> TiffImage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _read_head(self) -> None:
        page = self._page
        self.height, self.width = int(page.imagelength), int(page.imagewidth)
        self.num_samples = int(page.samplesperpixel)
        if page.imagedepth != 1 or page.dtype is None:
            raise DataError(
                f"{self._path}: a volume, or numbers of an unknown type", "Save it as pages of plain numbers."
            )
        page.nodata = _find_fill(page)
        _require_decoder(page, self._path)
        self._is_grey = page.photometric in _GREYS
        self._num_planes = self.num_samples if page.planarconfig == PLANARCONFIG.SEPARATE else 1
        if page.is_tiled:
            self._step = int(page.tilelength), int(page.tilewidth)
        else:
            self._step = min(int(page.rowsperstrip), self.height), self.width

    def _require_parts(self) -> None:
        """Refuse what is not read in parts."""
        page = self._page
        if page.tags.valueof(_ORIENTATION, 1) != 1:
            raise DataError(
                f"{self._path}: rotated by an orientation tag, which is not read in parts", "Save it upright."
            )
        sample_bytes = (self.num_samples // self._num_planes) * page.dtype.itemsize
        if not page.is_final and math.prod(self._step) * sample_bytes > MOST_BYTES_AT_ONCE:
            kind = "tiles" if page.is_tiled else "strips"
            raise DataError(
                f"{self._path}: {kind} of {self._step[0]:,} x {self._step[1]:,} pixels are too large to decode",
                AS_TILES,
            )

    def _require_fitting(self) -> None:
        """Refuse what is too large to be read as a whole."""
        if self.height * self.width > MOST_PX or self._count_bytes() > MOST_PAGE_BYTES:
            raise DataError(
                f"{self._path}: more than {MOST_PX // 10**6} megapixels, or {MOST_PAGE_BYTES // 2**30} GiB",
                "Cut the image into tiles.",
            )

    def require_photo(self) -> None:
        """Require colours that `read` can turn into RGB.

        Raises:
            DataError: They are of another kind.
        """
        page = self._page
        problem = ""
        if page.sampleformat != 1 or page.bitspersample not in (8, 16):
            problem = f"{page.bitspersample} bits a channel of format {page.sampleformat}"
        elif page.photometric == PHOTOMETRIC.PALETTE:
            if page.bitspersample != 8 or page.colormap is None:
                problem = "a palette that does not have 256 colours"
        elif not (self._is_grey and page.samplesperpixel <= 2):
            is_jpeg = page.compression == COMPRESSION.JPEG and page.photometric == PHOTOMETRIC.YCBCR
            if page.samplesperpixel < 3 or not (page.photometric == PHOTOMETRIC.RGB or is_jpeg):
                name = getattr(page.photometric, "name", page.photometric)
                problem = f"{page.samplesperpixel} channels of the kind {name}"
        if problem:
            raise DataError(
                f"{self._path}: {problem}, which is not supported in a TIFF this large",
                "Save it upright as RGB or grey, with 8 or 16 bits a channel.",
            )

    def _require_whole(self) -> None:
        """Refuse a truncated file now rather than after an hour of labelling."""
        page, count = self._page, self._num_planes * math.prod(self._count_segments())
        if min(len(page.dataoffsets), len(page.databytecounts)) < count:
            raise DataError(f"{self._path}: its list of tiles is truncated", "Replace the file.", "truncated-image")
        ends = [at + size for at, size in zip(page.dataoffsets, page.databytecounts, strict=False)]
        if page.is_final and not self._is_missing(0):  # whatever the size that its tags say
            ends.append(page.dataoffsets[0] + self._count_bytes())
        if max(ends, default=0) > self._file.filehandle.size:
            raise DataError(f"{self._path}: the file is truncated", "Replace the file.", "truncated-image")

    def _is_missing(self, index: int) -> bool:
        """Whether a tile or strip is not stored."""
        return not (self._page.dataoffsets[index] and self._page.databytecounts[index])

    def _count_bytes(self) -> int:
        """Return how many bytes all samples have."""
        return self.height * self.width * self.num_samples * int(self._page.dtype.itemsize)

    def _count_segments(self) -> tuple[int, int]:
        """Return how many tiles or strips a plane has down and across."""
        return -(-self.height // self._step[0]), -(-self.width // self._step[1])

    @property
    def palette(self) -> np.ndarray | None:
        """Colours of the palette; None without one.

        Shapes:
            out (256, 3) uint8.
        """
        colours = self._page.colormap
        return None if colours is None else (colours.T >> 8).astype(np.uint8)

    @property
    def compression(self) -> int:
        """The number of its compression in the tags."""
        return int(self._page.compression)

    @property
    def is_inverted(self) -> bool:
        """Whether 0 is white."""
        return bool(self._page.photometric == PHOTOMETRIC.MINISWHITE)

    @property
    def is_in_strips(self) -> bool:
        """Whether whole rows are decoded to read some of their columns."""
        return not self._page.is_tiled and not self._page.is_final

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Return a part of the image in the colours that `load_image` gives; `require_photo` comes before.

        Args:
            rows: Rows of the part, with explicit start and stop.
            columns: Its columns likewise.
        Shapes:
            out (h, w, 3) uint8 RGB.
        Raises:
            DataError: The file is broken.
        """
        return self.convert(self.read_samples(rows, columns))

    def read_samples(self, rows: slice, columns: slice) -> np.ndarray:
        """Return the numbers of a part of the image as they are stored; missing tiles are the nodata value, or 0.

        Args:
            rows: Rows of the part, with explicit start and stop.
            columns: Its columns likewise.
        Shapes:
            out (h, w, S).
        Raises:
            DataError: The file is broken.
        """
        shape = (rows.stop - rows.start, columns.stop - columns.start, self.num_samples)
        part = np.full(shape, self._page.nodata, dtype=self._page.dtype)
        with _naming(self._path):
            if self._page.is_final and not self._is_missing(0):
                self._read_plain(part, rows.start, columns.start)
            else:
                self._read_segments(part, rows, columns)
        return part

    def read_hidden(self, rows: slice, columns: slice) -> np.ndarray:
        """Return which pixels of a part have no data, as the mask of the page says, which has one.

        Args:
            rows: Rows of the part, with explicit start and stop.
            columns: Its columns likewise.
        Shapes:
            out (h, w) bool.
        Raises:
            DataError: The file is broken.
        """
        with TiffImage(self._source, self._number, in_parts=self._in_parts, is_mask=True) as mask:
            return np.asarray(mask.read_samples(rows, columns)[..., 0] == 0)

    def _read_segments(self, part: np.ndarray, rows: slice, columns: slice) -> None:
        (tall, wide), (num_down, num_across) = self._step, self._count_segments()
        down = range(rows.start // tall, -(-rows.stop // tall))
        self._kept = {index: kept for index, kept in self._kept.items() if index // num_across % num_down in down}
        num_deep = self.num_samples // self._num_planes
        across = range(columns.start // wide, -(-columns.stop // wide))
        for plane, row, column in itertools.product(range(self._num_planes), down, across):
            segment = self._decode((plane * num_down + row) * num_across + column)
            if segment is None:
                continue
            top, left = row * tall, column * wide
            first, start = max(rows.start - top, 0), max(columns.start - left, 0)
            taken = segment[first : rows.stop - top, start : columns.stop - left]
            at, begin = top + first - rows.start, left + start - columns.start
            into = part[..., plane : plane + num_deep]
            into[at : at + taken.shape[0], begin : begin + taken.shape[1]] = taken

    def _read_plain(self, part: np.ndarray, top: int, left: int) -> None:
        """Read rows that are stored one after another, not compressed: of each only the columns of the part."""
        page, (height, width, _) = self._page, part.shape
        num_deep = self.num_samples // self._num_planes
        pixel_bytes = num_deep * page.dtype.itemsize
        together = ROWS_AT_ONCE if width == self.width else 1  # rows without a gap between them
        for plane, row in itertools.product(range(self._num_planes), range(0, height, together)):
            at = page.dataoffsets[0] + ((plane * self.height + top + row) * self.width + left) * pixel_bytes
            into = part[row : row + together, :, plane : plane + num_deep]
            values = np.frombuffer(self._read_bytes(at, into.nbytes), page.dtype.newbyteorder(self.byteorder))
            into[:] = values.reshape(into.shape)

    def iter_samples(self) -> Iterator[np.ndarray]:
        """Yield the numbers of all pixels as they are stored, a row of tiles at a time, (R, W, S).

        Raises:
            DataError: The file is broken.
        """
        tall = ROWS_AT_ONCE if self._page.is_final else self._step[0]
        for top in range(0, self.height, tall):
            yield self.read_samples(slice(top, min(top + tall, self.height)), slice(0, self.width))

    def _decode(self, index: int) -> np.ndarray | None:
        """Return the samples of a tile or strip, (h, w, S); None if it is missing."""
        if index in self._kept:
            return self._kept[index]
        page = self._page
        if self._is_missing(index):
            return None
        data = self._read_bytes(page.dataoffsets[index], page.databytecounts[index])
        decoded = page.decode(data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader)[0]
        segment: np.ndarray = decoded[0]
        if self._keeps_rows:
            self._kept[index] = segment
        return segment

    def _read_bytes(self, at: int, count: int) -> bytes:
        handle = self._file.filehandle
        handle.seek(at)
        data = handle.read(count)
        if len(data) != count:
            raise DataError(f"{self._path}: the file is truncated", "Replace the file.", "truncated-image")
        return data

    def convert(self, samples: np.ndarray) -> np.ndarray:
        """Return samples as RGB, by the rules of `load_image`.

        Args:
            samples: What `read_samples` gives.
        Shapes:
            in (h, w, S); out (h, w, 3) uint8.
        """
        rgb = self.convert_stored(samples)
        profile = self._page.iccprofile
        if not profile or (self._is_grey and samples.dtype == np.uint16):
            return rgb
        return convert_pixels(rgb[..., 0] if self._is_grey else rgb, bytes(profile))

    def convert_stored(self, samples: np.ndarray) -> np.ndarray:
        """Return samples as `convert` does, but in the colours as they are stored, of whatever profile.

        Args:
            samples: The samples.
        Shapes:
            in (h, w, S); out (h, w, 3) uint8.
        """
        if self._page.photometric == PHOTOMETRIC.PALETTE and self.palette is not None:
            colours: np.ndarray = self.palette[samples[..., 0]]
            return colours
        samples = samples[..., : 1 if self._is_grey else 3]
        if samples.dtype == np.uint16:  # Pillow keeps the upper byte of colours
            samples = (samples.astype(np.uint32) + 128) // 257 if self._is_grey else samples >> 8
        rgb = np.repeat(samples.astype(np.uint8), 3 if self._is_grey else 1, axis=-1)
        return 255 - rgb if self.is_inverted else rgb

    def read_geo_tags(self) -> list[GeoTag]:
        """Return the tags that georeference the image, as raw bytes in the form that tifffile writes."""
        return _read_geo_tags(self._file)

    @property
    def byteorder(self) -> Any:
        """Byte order of samples and tags, "<" or ">"."""
        return self._file.byteorder


def save_label_tiff(
    path: Path,
    bands: Iterator[np.ndarray],
    image: TiffImage,
    label_space: LabelSpace | None = None,
    *,
    void_id: int | None = None,
) -> None:
    """Write ids as a tiled TIFF as they are computed: grey, or of 8 bits with the class colours as its palette.

    Args:
        path: The file; written atomically.
        bands: Ids from top to bottom, (R, W) uint8 or uint16; the R add up to the height of the image.
        image: The image that was labelled, whose georeference is copied.
        label_space: The classes, whose colours are the palette. Default: grey.
        void_id: The id of pixels without data, which is named as the nodata value; None if there are none.
    """
    first = next(bands)
    size = (image.height, image.width)
    is_big = image.height * image.width * first.itemsize > BIG_TIFF_BYTES
    with (
        atomic_path(path) as temporary,
        tifffile.TiffWriter(temporary, bigtiff=is_big, byteorder=image.byteorder) as writer,
    ):
        writer.write(
            _iter_tiles(itertools.chain([first], bands), *size),
            shape=size,
            dtype=first.dtype,
            tile=(TILE_SIDE, TILE_SIDE),
            compression="zlib",
            **_describe_kind(first.dtype, label_space),
            metadata=None,
            software=False,
            extratags=[*image.read_geo_tags(), *_name_nodata(void_id)],
            maxworkers=1,  # more workers collect half a gigabyte of tiles before they start
        )


def _iter_tiles(bands: Iterator[np.ndarray], height: int, width: int) -> Iterator[np.ndarray]:
    """Yield the tiles of bands from left to right and top to bottom; those at the borders are smaller."""
    waiting: list[np.ndarray] = []
    num_waiting = done = 0
    for band in bands:
        waiting.append(band)
        num_waiting += len(band)
        done += len(band)
        while num_waiting >= TILE_SIDE or (num_waiting and done == height):
            rows = np.concatenate(waiting)
            for left in range(0, width, TILE_SIDE):
                yield rows[:TILE_SIDE, left : left + TILE_SIDE]
            waiting = [rows[TILE_SIDE:]]
            num_waiting = len(waiting[0])
