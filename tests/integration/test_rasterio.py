"""Random GeoTIFFs, as rasterio writes them, are read as rasterio reads them: place, pixels, nodata and labels."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atrous.images.bands import choose_form, load_bands
from atrous.images.decode import load_mask
from atrous.images.place import read_place
from atrous.images.samples import find_empty, load_samples, read_stored

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
tiff = pytest.importorskip("atrous.images.tiff", reason="tifffile is not installed")

DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
COMPRESSIONS = ("NONE", "LZW", "DEFLATE", "PACKBITS", "ZSTD", "LZMA")
SYSTEMS = (32633, 4326, 3857, 2056, 2263, "+proj=laea +lat_0=52 +lon_0=10 +datum=WGS84 +units=m")
TRANSFORMS = {
    "north": (10, 0, 500_000.5, 0, -10, 4e6),
    "turned": (9, 1.5, 500_000, 2, -10, 4e6),
    "south": (10, 0, 500_000, 0, 10, 100),
}


def draw_options(generator: np.random.Generator, dtype: str) -> dict[str, Any]:
    """Return how GDAL lays out a file."""
    options: dict[str, Any] = {"COMPRESS": str(generator.choice(COMPRESSIONS))}
    options["INTERLEAVE"] = str(generator.choice(["PIXEL", "BAND"]))
    options |= {"TILED": "YES", "BLOCKXSIZE": 32, "BLOCKYSIZE": 16} if generator.random() < 0.5 else {"BLOCKYSIZE": 7}
    options |= {"BIGTIFF": "YES"} if generator.random() < 0.4 else {}
    options |= {"ENDIANNESS": "BIG"} if generator.random() < 0.4 else {}
    options |= {"SPARSE_OK": "TRUE"} if generator.random() < 0.3 else {}
    if options["COMPRESS"] in ("LZW", "DEFLATE", "ZSTD") and generator.random() < 0.6:
        options["PREDICTOR"] = 3 if dtype.startswith("float") and generator.random() < 0.5 else 2
    return options


def write(path: Path, pixels: np.ndarray, options: dict[str, Any], *, is_point: bool = False, **place: Any) -> None:
    """Write bands (C, H, W)."""
    count, height, width = pixels.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a file has no place
        with rasterio.open(
            path, "w", "GTiff", width, height, count, dtype=pixels.dtype.name, **place, **options
        ) as file:
            file.write(pixels)
            if is_point:
                file.update_tags(AREA_OR_POINT="Point")


def draw_nodata(generator: np.random.Generator, dtype: np.dtype[Any]) -> float | None:
    """Return a value that stands for no data, or None."""
    if dtype.kind == "f":
        found = [None, 0.0, -9999.0, float("nan"), float(np.finfo(np.float32).min)]
    elif dtype.itemsize == 8:
        found = [None, 0, 7]  # floats do not hold the ends of the range
    else:
        found = [None, 0, 7, int(np.iinfo(dtype).max), int(np.iinfo(dtype).min)]
    return found[generator.integers(len(found))]


@pytest.mark.parametrize("seed", range(60))
def test_an_image_is_what_rasterio_says(seed, tmp_path):
    generator = np.random.default_rng(seed)
    dtype = np.dtype(DTYPES[seed % len(DTYPES)])
    count, height, width = int(generator.choice([1, 2, 3, 6, 9])), *generator.integers(20, 70, 2).tolist()
    limits = (-100, 100) if dtype.kind in "if" else (0, 200)
    pixels = generator.integers(*limits, (count, height, width)).astype(dtype)
    nodata = draw_nodata(generator, dtype)
    if nodata is not None:
        pixels[:, :18] = np.array(nodata).astype(dtype)
        pixels[0, 19, 2] = np.array(nodata).astype(dtype)
    kind = str(generator.choice([*TRANSFORMS, "points", "none"]))
    place: dict[str, Any] = {"nodata": nodata}
    if kind in TRANSFORMS:
        place |= {"transform": rasterio.Affine(*TRANSFORMS[kind]), "crs": SYSTEMS[generator.integers(len(SYSTEMS))]}
    elif kind == "points":
        corners = [(row, column) for row in (0, height) for column in (0, width)]
        points = [rasterio.control.GroundControlPoint(r, c, 5e5 + 10 * c, 4e6 - 10 * r) for r, c in corners]
        place |= {"gcps": points, "crs": 32633}
    path, out = tmp_path / "a.tif", tmp_path / "labels.tif"
    is_point = kind in TRANSFORMS and generator.random() < 0.3
    write(path, pixels, draw_options(generator, dtype.name), is_point=is_point, **place)

    stored, samples = read_stored(path), load_samples(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with rasterio.open(path) as file:
            expected, is_valid = file.read(), file.read_masks() > 0
            transform, crs, points, of_file = file.transform, file.crs, file.gcps[0], file.nodata
    assert samples.dtype == expected.dtype
    np.testing.assert_array_equal(samples, np.moveaxis(expected, 0, 2))
    np.testing.assert_equal(stored.nodata, of_file)
    if dtype.kind == "f":
        is_valid &= np.isfinite(expected)
    is_empty = np.moveaxis(~is_valid, 0, 2) if stored.num_bands == stored.num_colours else None
    if is_empty is not None and of_file is not None:
        np.testing.assert_array_equal(find_empty(samples, stored.nodata), is_empty)
        bands = load_bands(path, choose_form(stored))
        missing = np.zeros((height, width), bool) if bands.is_missing is None else bands.is_missing
        np.testing.assert_array_equal(missing, is_empty.all(axis=2))

    found = read_place(path)
    assert (found is not None) == (kind in TRANSFORMS)
    if found is not None:
        np.testing.assert_allclose((*found.matrix[0], *found.matrix[1]), tuple(transform)[:6], rtol=1e-12)
        assert found.epsg == crs.to_epsg()
    if kind != "none":
        labels = generator.integers(0, 3, (height, width)).astype(np.uint8)
        tiff.save_placed_labels(out, labels, path, void_id=255)
        with rasterio.open(out) as file:
            assert (file.transform, file.crs, file.nodata) == (transform, crs, 255)
            assert len(file.gcps[0]) == len(points)
            np.testing.assert_array_equal(file.read(1), labels)


@pytest.mark.parametrize("seed", range(40))
def test_a_mask_is_what_rasterio_says(seed, tmp_path):
    generator = np.random.default_rng(seed)
    dtype = np.dtype(DTYPES[seed % len(DTYPES)])
    mask = generator.integers(-3 if dtype.kind in "if" else 0, 9, (1, *generator.integers(3, 70, 2))).astype(dtype)
    write(
        tmp_path / "a.tif", mask, draw_options(generator, dtype.name), crs=32633, transform=rasterio.Affine(*range(6))
    )
    np.testing.assert_array_equal(load_mask(tmp_path / "a.tif"), mask[0])
