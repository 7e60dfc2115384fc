"""Changes of resolution in a network: logits to pixels, images to scaled copies.

Bilinear interpolation is separable, so it is two small matrix products, rows and columns. This form computes any band
of rows alone, follows either convention, has a gradient, and is faster than a general resize. Where labels alone are
wanted, `inference/labelling` interpolates by itself, only where the class changes: `likeliest.py` and `compiled.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import torch
from torch import Tensor
from torch.nn import functional as F

from atrous.networks.contracts import Geometry

MOST_PARTS = 10_000
"""Largest denominator of the fraction that represents a scale in an exported graph."""


def compute_interpolation(positions: Tensor, count: int) -> Tensor:
    """Return the matrix that reads `count` samples at fractional positions.

    Args:
        positions: (n,) floats, in samples; those outside [0, count - 1] read the nearest end.
        count: Number of samples, >= 1.
    Shapes:
        out (n, count) float32, at most two numbers above zero in each row, which sums to 1.
    """
    before, share = (column.unsqueeze(1) for column in find_taps(positions, count))
    samples = torch.arange(count, device=positions.device).unsqueeze(0)
    return ((samples == before) * (1 - share) + (samples == before + 1) * share).float()


def find_taps(positions: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return, for each position, the sample before it and the weight of the sample after that.

    Args:
        positions: Positions in samples; those outside [0, count - 1] read the nearest end.
        count: Number of samples, >= 1; of a single sample the weight is 0.
    Shapes:
        positions (N,) floats; out (N,) twice.
    """
    positions = positions.clamp(0, count - 1)
    before = positions.floor().clamp(max=count - 2).clamp(min=0)
    return before, positions - before


def multiply_sides(cells: Tensor, by_row: Tensor, by_column: Tensor) -> Tensor:
    """Return by_row @ cells @ by_column.T, in fp32 at least.

    Args:
        cells: A map.
        by_row: Matrix that combines its rows.
        by_column: Matrix that combines its columns.
    Shapes:
        cells (B, C, h, w), by_row (R, h), by_column (W, w); out (B, C, R, W).
    """
    return _multiply(_multiply(by_row, cells), by_column.T)


def _multiply(left: Tensor, right: Tensor) -> Tensor:
    """Return the matrix product in fp32 at least: autocast would round positions and logits to 8 bits of mantissa."""
    if left.device.type != "meta" and torch.is_autocast_enabled(left.device.type):  # which has no autocast
        with torch.autocast(left.device.type, enabled=False):
            return _multiply(left, right)
    dtype = torch.promote_types(torch.promote_types(left.dtype, right.dtype), torch.float32)
    return left.to(dtype) @ right.to(dtype)


def _locate_pixels(pixels: Tensor, size: int, seen_size: int, cells: int, geometry: Geometry) -> Tensor:
    """Return the positions of pixels along a side, in cells of the network's map.

    `size` is the side of the image whose pixels are wanted, `seen_size` that of the (scaled) copy the network saw.
    """
    if geometry.aligned:
        return pixels * (_compute_step(size, seen_size) / geometry.stride)
    return (pixels + 0.5) * (cells / size) - 0.5


def _compute_step(size: int, seen_size: int) -> float:
    """Return the distance from one pixel to the next in the copy that the network saw, with aligned corners."""
    return 1.0 if size == seen_size else (seen_size - 1) / max(size - 1, 1)


class Enlargement:
    """Bilinear interpolation of a map at the pixels of the image, whole or one band of rows at a time.

    Args:
        geometry: Positions of the cells in the image that the network saw.
        cells: Number of rows and columns of the map.
        size: Height and width of the image whose pixels are wanted, if the network saw a scaled copy of it.
        device: Device of the maps.
    """

    def __init__(
        self, geometry: Geometry, cells: tuple[int, int], *, size: tuple[int, int] | None = None, device: torch.device
    ) -> None:
        height, width = size or (geometry.height, geometry.width)
        self._cells = cells
        self._device = device
        self._last_row = cells[0] - 1
        self._by_side: dict[str, Tensor] = {}
        self._is_identity = geometry.stride == 1 and (height, width) == (geometry.height, geometry.width)
        if self._is_identity:
            return
        # Positions are computed on the CPU, since MPS has no float64.
        rows = torch.arange(height, dtype=torch.float64)
        columns = torch.arange(width, dtype=torch.float64)
        self._rows_at = _locate_pixels(rows, height, geometry.height, cells[0], geometry).clamp(0, cells[0] - 1)
        self._columns_at = _locate_pixels(columns, width, geometry.width, cells[1], geometry)

    # Computed once, when they are needed. Not cached properties: PyTorch compiles no locks.
    @property
    def _by_row(self) -> Tensor:  # (H, h)
        if "row" not in self._by_side:
            self._by_side["row"] = compute_interpolation(self._rows_at, self._cells[0]).to(self._device)
        return self._by_side["row"]

    @property
    def _by_column(self) -> Tensor:  # (W, w)
        if "column" not in self._by_side:
            self._by_side["column"] = compute_interpolation(self._columns_at, self._cells[1]).to(self._device)
        return self._by_side["column"]

    def find_taps(self) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Return the positions of the image's rows and of its columns in the map, see `find_taps`; on the CPU.

        Shapes:
            out (H,) twice for the rows and (W,) twice for the columns.
        """
        return find_taps(self._rows_at, self._cells[0]), find_taps(self._columns_at, self._cells[1])

    def widen(self, logits: Tensor) -> Tensor:
        """Interpolate along each row of the map: (B, K, h, w) -> (B, K, h, W), float32 at least."""
        if self._is_identity:
            return logits.to(torch.promote_types(logits.dtype, torch.float32))
        return _multiply(logits, self._by_column.T)

    def narrow(self, gradient: Tensor) -> Tensor:
        """Return the gradient of `widen`'s input, (B, K, h, w), from that of its output, (B, K, h, W)."""
        return gradient @ self._by_column.to(gradient.dtype)

    def find_rows(self, start: int, stop: int) -> slice:
        """Return the rows of the map that a band of the image's rows is interpolated from.

        Args:
            start: First row of the band.
            stop: Row after its last.
        """
        if self._is_identity:
            return slice(start, stop)
        first, last = (int(self._rows_at[row]) for row in (start, stop - 1))
        return slice(first, min(last + 1, self._last_row) + 1)

    def find_band(self, start: int, stop: int, dtype: torch.dtype) -> tuple[slice, Tensor]:
        """Return the rows of the map that a band of the image's rows is interpolated from, and how.

        Args:
            start: First row of the band.
            stop: Row after its last.
            dtype: Type of the matrix.
        Returns: The map's rows, h' of them, and the matrix (R, h') that multiplies them from the left.
        """
        rows = self.find_rows(start, stop)
        return rows, self._by_row[start:stop, rows].to(dtype)

    def enlarge_band(
        self, widened: Tensor, start: int, stop: int, *, first_row: int = 0, chosen: slice = slice(None)
    ) -> Tensor:
        """Interpolate a widened map at a band of the image's rows.

        Args:
            widened: The widened map, or only those of its rows that `find_rows` returns.
            start: First row of the band.
            stop: Row after its last.
            first_row: Row of the map that `widened` starts at.
            chosen: Which rows of the band are wanted.
        Shapes:
            in (B, K, h, W); out (B, K, R, W).
        """
        if self._is_identity:
            return widened[:, :, start - first_row : stop - first_row][:, :, chosen]
        rows, by_row = self.find_band(start, stop, widened.dtype)
        return _multiply(by_row[chosen], widened[:, :, rows.start - first_row : rows.stop - first_row])

    def enlarge(self, logits: Tensor) -> Tensor:
        """Interpolate at all pixels: (B, K, h, w) -> (B, K, H, W), float32 at least."""
        widened = self.widen(logits)
        return widened if self._is_identity else _multiply(self._by_row, widened)


CPU_BAND_BYTES = 2**20
"""Bytes of logits per band of rows: as much as fits in a core's cache."""
DEVICE_BAND_BYTES = 64 * 2**20
"""The same on other devices: enough to keep them busy."""


def iter_row_bands(
    height: int, row_bytes: int, device: torch.device, *, cpu_bytes: int | None = None
) -> Iterator[slice]:
    """Yield the rows of an image as bands that are processed while they are in the cache.

    Args:
        height: Number of rows of the image.
        row_bytes: Bytes of logits per row.
        device: Device that computes them.
        cpu_bytes: Bytes of logits per band on a CPU. Default: CPU_BAND_BYTES.
    """
    band_bytes = (cpu_bytes or CPU_BAND_BYTES) if device.type == "cpu" else DEVICE_BAND_BYTES
    rows = max(band_bytes // row_bytes, 1)
    for start in range(0, height, rows):
        yield slice(start, min(start + rows, height))


def enlarge_logits(logits: Tensor, geometry: Geometry, *, size: tuple[int, int] | None = None) -> Tensor:
    """Interpolate the cells' logits at the pixels of the image.

    Args:
        logits: One vector per cell of the network's map.
        geometry: Positions of the cells in the image that the network saw.
        size: Height and width of the image whose pixels are wanted, if the network saw a scaled copy of it.
    Shapes:
        in (B, K, h, w); out (B, K, H, W), float32 at least.
    """
    return Enlargement(geometry, (logits.shape[2], logits.shape[3]), size=size, device=logits.device).enlarge(logits)


def resample_cells(cells: Tensor, source: Geometry, target: Geometry) -> Tensor:
    """Interpolate one map at the cells of another: of another stride, or of a scaled copy of the image.

    Args:
        cells: A map.
        source: Its geometry.
        target: The geometry of the map that is wanted.
    Shapes:
        in (B, C, h, w); out (B, C, h', w') float32.
    """
    matrices: list[Tensor] = []
    for count, wanted, size, seen_size, padded_size in (
        (cells.shape[2], target.map_height, target.height, source.height, source.padded_height),
        (cells.shape[3], target.map_width, target.width, source.width, source.padded_width),
    ):
        number = torch.arange(wanted, dtype=torch.float32, device=cells.device)
        if target.aligned:
            at = number * (target.stride / source.stride * _compute_step(size, seen_size))
        else:
            share = 1.0 if padded_size == seen_size else seen_size / padded_size  # of the cells that tile the image
            at = (number + 0.5) * (count / wanted * share) - 0.5
        matrices.append(compute_interpolation(at, count))
    return multiply_sides(cells, *matrices)


def resize_map(cells: Tensor, size: tuple[int, int], *, aligned: bool) -> Tensor:
    """Interpolate a map to another number of cells over the same area.

    Args:
        cells: The map.
        size: Rows and columns wanted.
        aligned: Whether corner cells stay on corner cells, or cells tile the area.
    Shapes:
        in (B, C, h, w); out (B, C, *size).
    """
    if tuple(cells.shape[2:]) == size:
        return cells
    return F.interpolate(cells, size=size, mode="bilinear", align_corners=aligned)


def _scale_size(size: int, scale: float) -> int:
    """Return round(size * scale), half to even; in integers for a dynamic size, as in an exported graph."""
    if not isinstance(size, torch.SymInt):
        return round(size * scale)
    ratio = Fraction(scale).limit_denominator(MOST_PARTS)
    doubled = 2 * ratio.denominator
    halves = 2 * ratio.numerator * size + ratio.denominator
    rounded_up, rest = halves // doubled, halves % doubled
    is_tie = (doubled - 1 - rest) // (doubled - 1)  # 1 if the remainder is 0, else 0
    return rounded_up - is_tie * (rounded_up % 2)


def scale_image(images: Tensor, scale: float, *, aligned: bool) -> Tensor:
    """Return a bilinearly scaled copy.

    If aligned, a side of n pixels becomes round((n - 1) * scale) + 1 with aligned corners, so that sample centres stay
    in place; else round(n * scale), at least 1, with half-pixel centres.

    Args:
        images: The images.
        scale: Relative size of the copy, above 0.
        aligned: Whether corner pixels stay on corner pixels.
    Shapes:
        in (B, 3, H, W) floats; out (B, 3, H', W').
    """
    if scale == 1.0:
        return images
    height, width = images.shape[2:]
    if aligned:
        size = (_scale_size(height - 1, scale) + 1, _scale_size(width - 1, scale) + 1)
    else:
        size = (max(_scale_size(height, scale), 1), max(_scale_size(width, scale), 1))
    return F.interpolate(images, size=size, mode="bilinear", align_corners=aligned)
