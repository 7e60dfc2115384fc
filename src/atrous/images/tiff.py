"""TIFFs read and written with tifffile: whole pages of any number of bands, and images larger than memory in parts."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import imagecodecs  # noqa: F401  tifffile decodes tiles with it and would only fail at the first one
import numpy as np
import tifffile
from tifffile import COMPRESSION, PHOTOMETRIC, PLANARCONFIG

from atrous.core.errors import AtrousError, DataError
from atrous.core.files import atomic_path
from atrous.core.labels import LabelSpace
from atrous.core.system_errors import describe_reason, raise_shortage
from atrous.images.palette import build_colour_table
from atrous.images.profile import convert_pixels
from atrous.images.tiff_tags import NODATA, read_nodata

GEO_TAGS = (33550, 33922, 34264, 34735, 34736, 34737)
"""Tags that georeference a GeoTIFF. GDAL's 42113 (no data) is not copied: it names a colour there, an id here."""
TILE_SIDE = 512
"""Side of the tiles that labels are written in, in pixels."""
ROWS_AT_ONCE = 256
"""Rows read at a time from an image without tiles and compression, whatever the length of its strips."""
MOST_BYTES_AT_ONCE = 2**29
"""Largest row of tiles, or strip, that is decoded: either must be decoded whole."""
BIG_TIFF_BYTES = 2**32 - 2**25
"""Size of uncompressed labels above which the offsets in a TIFF need 64 bits."""

_GREYS = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.MINISWHITE)
_ORIENTATION, _REDUCED_OR_MASK = 274, 5


MOST_PX = 178_956_970
"""Pixels of a page that is read as a whole, as many as Pillow reads of any file."""
MOST_PAGE_BYTES = 2**34


def read_page(source: str | Path | bytes, page: int | None = None) -> np.ndarray:
    """Decode all samples of one page.

    Args:
        source: A path, or the file as bytes.
        page: The page, from 1, overviews and masks of other pages not counted. None: the first one.
    Returns:
        (H, W, S) as stored.
    Raises:
        DataError: The file is broken or hostile, or of a kind that is not read.
        MachineError: Not enough memory to decode it.
    """
    name = source if isinstance(source, str | Path) else "image in memory"
    with _naming(name), tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else source) as file:
        number, wanted = -1, page or 1
        while wanted:
            number += 1
            wanted -= number == 0 or not int(getattr(file.pages[number], "subfiletype", 0)) & _REDUCED_OR_MASK
        found: Any = file.pages[number]
        num_pixels = int(found.imagelength) * int(found.imagewidth)
        size = num_pixels * int(found.samplesperpixel) * int(found.dtype.itemsize if found.dtype else 8)
        if num_pixels > MOST_PX or size > MOST_PAGE_BYTES:
            raise DataError(f"{name}: more than {MOST_PX // 10**6} megapixels", "Cut the image into tiles.")
        if found.imagedepth != 1 or found.dtype is None:
            raise DataError(f"{name}: a volume, or numbers of an unknown type", "Save it as pages of plain numbers.")
        _require_whole(found, name, file.filehandle.size)
        if found.compression == COMPRESSION.LERC:  # which has values that are missing: decoded, they would be 0
            raise DataError(f"{name}: is compressed as LERC, which is not read", "Use gdal_translate -co COMPRESS=LZW.")
        found.nodata = _find_fill(found)
        samples: np.ndarray = found.asarray(maxworkers=1)
        if found.samplesperpixel == 1:
            samples = samples[..., None]
        elif found.planarconfig == PLANARCONFIG.SEPARATE:
            samples = np.moveaxis(samples, 0, -1)
        shape = (int(found.imagelength), int(found.imagewidth), int(found.samplesperpixel))
        return samples.reshape(shape)


def _find_fill(page: Any) -> float | int:
    """Return the value of tiles that are not stored: the nodata value where the type can hold it, as GDAL has it."""
    nodata = read_nodata({NODATA: page.tags.valueof(NODATA)})
    if nodata is None or page.dtype.kind == "f":
        return nodata or 0.0
    limits = np.iinfo(page.dtype)
    return int(nodata) if nodata == nodata // 1 and limits.min <= nodata <= limits.max else 0


def _require_whole(page: Any, name: object, file_size: int) -> None:
    """Refuse a truncated file before it is decoded: what is missing would be black."""
    end = max((at + size for at, size in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
    if end > file_size:
        raise DataError(f"{name}: the file is truncated", "Replace the file.", "truncated-image")


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
    nodata = [] if void_id is None else [(NODATA, "s", 0, str(void_id), True)]
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            labels,
            **_describe_kind(labels.dtype, label_space),
            compression="zlib",
            byteorder=byteorder,
            metadata=None,
            software=False,
            extratags=[*tags, *nodata],
            maxworkers=1,
        )


def _describe_kind(dtype: np.dtype[Any], label_space: LabelSpace | None) -> dict[str, Any]:
    if dtype != np.uint8 or label_space is None:
        return {"photometric": "minisblack"}
    colours = build_colour_table(label_space, 256).T.astype(np.uint16) * 257  # (3, 256), of 16 bits
    return {"photometric": "palette", "colormap": colours}


class TiffImage:
    """The first page of a TIFF, read a part at a time, with the colours that `load_image` gives.

    Decoded rows of tiles (or strips) are kept while the parts being read overlap them, so an image that is read from
    top to bottom is decoded once. `height` and `width` are in pixels.

    Args:
        path: The file.
    Raises:
        DataError: The file is broken or of a kind that is not supported; also raised when a part is read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[int, np.ndarray] = {}
        with _naming(self._path):
            self._file = tifffile.TiffFile(path)
        try:
            with _naming(self._path):
                self._read_head()
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
        page: Any = self._file.pages.first
        self._page = page
        self.height, self.width = int(page.imagelength), int(page.imagewidth)
        self._is_grey = page.photometric in _GREYS
        self._require_known_colours()
        self._num_planes = page.samplesperpixel if page.planarconfig == PLANARCONFIG.SEPARATE else 1
        self._num_across = -(-self.width // page.tilewidth) if page.is_tiled else 1
        if page.is_final:
            self._step = ROWS_AT_ONCE
        else:
            self._step = page.tilelength if page.is_tiled else min(page.rowsperstrip, self.height)
        row_bytes = page.samplesperpixel * page.dtype.itemsize
        row_bytes *= self._num_across * page.tilewidth if page.is_tiled else self.width
        if self._step * row_bytes > MOST_BYTES_AT_ONCE:
            raise DataError(
                f"{self._path}: {'tiles' if page.is_tiled else 'strips'} of {self._step} rows are too large to decode",
                "Save the image in tiles, for example of 512 x 512 pixels.",
            )
        self._require_whole()

    def _require_known_colours(self) -> None:
        page = self._page
        problem = ""
        if page.sampleformat != 1 or page.bitspersample not in (8, 16):
            problem = f"{page.bitspersample} bits a channel of format {page.sampleformat}"
        elif page.imagedepth != 1 or (_ORIENTATION in page.tags and page.tags[_ORIENTATION].value != 1):
            problem = "a volume, or rotated by an orientation tag"
        elif page.photometric == PHOTOMETRIC.PALETTE:
            if page.bitspersample == 8 and page.colormap is not None:
                self._palette = (page.colormap.T >> 8).astype(np.uint8)  # (256, 3)
            else:
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
        page = self._page
        tile_rows = page.tilelength if page.is_tiled else min(page.rowsperstrip, self.height)
        expected = self._num_planes * self._num_across * -(-self.height // tile_rows)
        end = max((at + size for at, size in zip(page.dataoffsets, page.databytecounts, strict=True)), default=0)
        if len(page.dataoffsets) != expected or end > self._file.filehandle.size:
            raise DataError(f"{self._path}: the file or its list of tiles is truncated", "Replace the file.")

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Return a part of the image; parts are read from top to bottom.

        Args:
            rows: Rows of the part, with explicit start and stop.
            columns: Its columns likewise.
        Shapes:
            out (h, w, 3) uint8 RGB.
        Raises:
            DataError: The file is broken.
        """
        first, last = rows.start // self._step, (rows.stop - 1) // self._step
        for number in [number for number in self._rows if not first <= number <= last]:
            del self._rows[number]
        for number in range(first, last + 1):
            if number not in self._rows:
                with _naming(self._path):
                    self._rows[number] = self._convert(self._decode(number))
        part = np.concatenate([self._rows[number][:, columns] for number in range(first, last + 1)])
        return part[rows.start - first * self._step :][: rows.stop - rows.start]

    def iter_samples(self) -> Iterator[np.ndarray]:
        """Yield the numbers of all pixels as they are stored, a row of tiles at a time, (R, W, S).

        Raises:
            DataError: The file is broken.
        """
        for number in range(-(-self.height // self._step)):
            with _naming(self._path):
                yield self._decode(number)

    def _decode(self, number: int) -> np.ndarray:
        """Return the samples of a row of tiles, (R, W, S) uint8 or uint16; missing tiles are black."""
        page, top = self._page, number * self._step
        num_rows = min(self._step, self.height - top)
        samples = np.zeros((num_rows, self.width, page.samplesperpixel), dtype=page.dtype)
        num_deep = page.samplesperpixel // self._num_planes
        for plane in range(self._num_planes):
            into = samples[..., plane : plane + num_deep]
            if page.is_final:
                row_bytes = self.width * num_deep * page.dtype.itemsize
                at = page.dataoffsets[0] + (plane * self.height + top) * row_bytes
                values = np.frombuffer(
                    self._read_bytes(at, num_rows * row_bytes), page.dtype.newbyteorder(self.byteorder)
                )
                into[:] = values.reshape(into.shape)
                continue
            num_down = -(-self.height // self._step)
            start = (plane * num_down + number) * self._num_across
            for index in range(start, start + self._num_across):
                if not page.databytecounts[index]:
                    continue
                data = self._read_bytes(page.dataoffsets[index], page.databytecounts[index])
                tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
                decoded, (_, _, _, left, _), _ = page.decode(data, index, **tables)
                tile = decoded[0, :num_rows, : self.width - left]
                into[: len(tile), left : left + tile.shape[1]] = tile
        return samples

    def _read_bytes(self, at: int, count: int) -> bytes:
        handle = self._file.filehandle
        handle.seek(at)
        data = handle.read(count)
        if len(data) != count:
            raise DataError(f"{self._path}: the file is truncated", "Replace the file.")
        return data

    def _convert(self, samples: np.ndarray) -> np.ndarray:
        """Return samples (R, W, S) as (R, W, 3) uint8 RGB, by the rules of `load_image`."""
        rgb = self._convert_stored(samples)
        profile = self._page.iccprofile
        if not profile or (self._is_grey and samples.dtype == np.uint16):
            return rgb
        return convert_pixels(rgb[..., 0] if self._is_grey else rgb, bytes(profile))

    def _convert_stored(self, samples: np.ndarray) -> np.ndarray:
        if self._page.photometric == PHOTOMETRIC.PALETTE:
            colours: np.ndarray = self._palette[samples[..., 0]]
            return colours
        samples = samples[..., : 1 if self._is_grey else 3]
        if samples.dtype == np.uint16:  # Pillow keeps the upper byte of colours
            samples = (samples.astype(np.uint32) + 128) // 257 if self._is_grey else samples >> 8
        rgb = np.repeat(samples.astype(np.uint8), 3 if self._is_grey else 1, axis=-1)
        return 255 - rgb if self._page.photometric == PHOTOMETRIC.MINISWHITE else rgb

    def read_geo_tags(self) -> list[GeoTag]:
        """Return the tags that georeference the image, as raw bytes in the form that tifffile writes."""
        return _read_geo_tags(self._file)

    @property
    def byteorder(self) -> Any:
        """Byte order of samples and tags, "<" or ">"."""
        return self._file.byteorder


def save_label_tiff(
    path: Path, bands: Iterator[np.ndarray], image: TiffImage, label_space: LabelSpace | None = None
) -> None:
    """Write ids as a tiled TIFF as they are computed: grey, or of 8 bits with the class colours as its palette.

    Args:
        path: The file; written atomically.
        bands: Ids from top to bottom, (R, W) uint8 or uint16; the R add up to the height of the image.
        image: The image that was labelled, whose georeference is copied.
        label_space: The classes, whose colours are the palette. Default: grey.
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
            extratags=image.read_geo_tags(),
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
