"""Where an image is on the Earth, as the tags of a GeoTIFF say. No pixel is decoded, only Pillow is needed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from atrous.images.tiff_tags import is_tiff, read_tags

_ORIENTATION, _SCALE, _TIE_POINT, _TRANSFORM, _KEYS, _NUMBERS, _RPC = 274, 33550, 33922, 34264, 34735, 34736, 50844
_MODEL, _RASTER, _GEOGRAPHIC, _PROJECTED, _UNIT, _UNIT_SIZE = 1024, 1025, 2048, 3072, 3076, 3077
_IS_PROJECTED, _IS_POINT, _OWN = 1, 2, 32767
TIFF_SUFFIXES = (".tif", ".tiff")
MOST_SHIFT_PX = 0.1
"""Distance of two corners up to which they are one place: rounding of coordinates is far less."""
_METRES = {9001: 1.0, 9002: 0.3048, 9003: 1200 / 3937}
"""Metre, foot and foot of the US survey."""
_DISTORTED = (3395, 3857, 3785, 900913)
"""Mercator projections of the world, whose areas are wrong by a factor that grows with the latitude."""


@dataclass(frozen=True)
class Place:
    """The map from pixels to coordinates, and what these are.

    Args:
        matrix: (2, 3) numbers: x and y of a coordinate are matrix @ (column, row, 1), where the upper left corner of
            the first pixel is (0, 0).
        epsg: Number of the coordinate reference system in EPSG's list; None if it has none.
        unit_m: Length of a unit of a projected system in metres; None if it is not known, or the system is geographic.
    """

    matrix: tuple[tuple[float, float, float], tuple[float, float, float]]
    epsg: int | None
    unit_m: float | None

    def to_numbers(self) -> tuple[float, ...]:
        """Return the six numbers of the matrix, row by row, and that of the reference system, 0 if it has none."""
        return (*self.matrix[0], *self.matrix[1], float(self.epsg or 0))

    @property
    def pixel_m2(self) -> float | None:
        """Area of a pixel in square metres; None if it is not known, or not the same everywhere in the image."""
        if self.unit_m is None or self.epsg in _DISTORTED:
            return None
        (a, b, _), (c, d, _) = self.matrix
        return abs(a * d - b * c) * self.unit_m**2

    def locate(self, points: np.ndarray) -> np.ndarray:
        """Return the coordinates of points of the image.

        Shapes:
            in (N, 2) columns and rows; out (N, 2) float64, x and y.
        """
        matrix = np.array(self.matrix)
        return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float64)

    def find_points(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the points of the image that have some coordinates.

        Shapes:
            in (N, 2) x and y; out (N, 2) float64, columns and rows.
        """
        matrix = np.array(self.matrix)
        return np.asarray((coordinates - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T, np.float64)


def describe_shift(one: tuple[float, ...], other: tuple[float, ...], size: tuple[int, int]) -> str:
    """Say how two images of one size differ in where they are; nothing if they agree, or one does not say.

    Args:
        one: A place, as `Place.to_numbers` says.
        other: Another one.
        size: Height and width of both images in pixels.
    """
    if not one or not other:
        return ""
    if one[6] and other[6] and one[6] != other[6]:
        return f"EPSG:{other[6]:.0f} instead of EPSG:{one[6]:.0f}"
    matrices = [np.array(place[:6]).reshape(2, 3) for place in (one, other)]
    corners = np.array([(x, y, 1) for x in (0, size[1]) for y in (0, size[0])], dtype=np.float64)
    shift = np.linalg.solve(matrices[0][:, :2], (corners @ (matrices[1] - matrices[0]).T).T)  # in pixels, (2, 4)
    farthest = float(np.abs(shift).max())
    return f"moved by {farthest:.3g} pixels" if farthest > MOST_SHIFT_PX else ""


def read_place(path: Path) -> Place | None:
    """Return where an image is; None for a file that is no GeoTIFF, is turned by an orientation tag, or is damaged."""
    if not is_tiff(path):
        return None
    with suppress(Exception):  # damaged tags may break anything; who reads the pixels reports it
        return find_place(read_tags(path, page=1))
    return None


def is_georeferenced(path: Path) -> bool:
    """Whether a file says where it is, by a place, points on the ground or a camera model (RPC); see `read_place`."""
    if not is_tiff(path):
        return False
    with suppress(Exception):
        tags = read_tags(path, page=1)
        return tags.get(_ORIENTATION, 1) == 1 and any(tags.get(code) for code in (_TIE_POINT, _TRANSFORM, _RPC))
    return False


def find_place(tags: Mapping[int, Any]) -> Place | None:
    """Return the place that the tags of a TIFF name; None if they name none, or one that is no area.

    Args:
        tags: Values by the code of the tag.
    """
    keys = _read_keys(tags)
    matrix = _read_matrix(tags)
    if matrix is None or tags.get(_ORIENTATION, 1) != 1:
        return None
    if keys.get(_RASTER) == _IS_POINT:  # the point that is named is the centre of a pixel
        matrix[:, 2] -= matrix[:, :2].sum(axis=1) / 2
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:, :2])) < 1e-300:
        return None
    is_projected = keys.get(_MODEL, _IS_PROJECTED if _PROJECTED in keys else None) == _IS_PROJECTED
    number = keys.get(_PROJECTED if is_projected else _GEOGRAPHIC)
    epsg = int(number) if number is not None and 0 < number < _OWN else None
    rows = matrix.tolist()
    return Place((tuple(rows[0]), tuple(rows[1])), epsg, _read_unit(keys, epsg) if is_projected else None)


def _read_matrix(tags: Mapping[int, Any]) -> np.ndarray | None:
    """Return the map from pixels to coordinates as GDAL reads it, also where tags say it twice or break the rules."""
    scale, tie = tags.get(_SCALE, ()), tags.get(_TIE_POINT, ())
    if len(scale) >= 2 and len(tie) >= 6:
        (column, row, _, x, y, _), wide, tall = tie[:6], scale[0], abs(scale[1])
        return np.array([[wide, 0, x - column * wide], [0, -tall, y + row * tall]], np.float64)
    if len(values := tags.get(_TRANSFORM, ())) == 16:
        return np.array(values, np.float64).reshape(4, 4)[:2][:, [0, 1, 3]]
    return None


def _read_keys(tags: Mapping[int, Any]) -> dict[int, float]:
    """Return the numbers among the GeoKeys."""
    directory, numbers = tags.get(_KEYS, ()), tags.get(_NUMBERS, ())
    found = {}
    for start in range(4, len(directory) - 3, 4):
        key, place, count, value = directory[start : start + 4]
        if place == 0:
            found[key] = value
        elif place == _NUMBERS and count == 1 and value < len(numbers):
            found[key] = numbers[value]
    return found


def _read_unit(keys: Mapping[int, float], epsg: int | None) -> float | None:
    if (unit := keys.get(_UNIT)) is not None:
        metres = keys.get(_UNIT_SIZE) if unit == _OWN else _METRES.get(int(unit))
        return metres if metres is not None and math.isfinite(metres) and metres > 0 else None
    is_utm = epsg is not None and (32601 <= epsg <= 32660 or 32701 <= epsg <= 32760)
    return 1.0 if is_utm else None
