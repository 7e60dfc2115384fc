"""Random GeoTIFFs, as rasterio writes them, are read as rasterio reads them: place, pixels, nodata and labels."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atrous.images.bands import choose_form, load_bands
from atrous.images.decode import load_mask
from atrous.images.place import is_georeferenced, read_place
from atrous.images.samples import find_empty, inspect_image, load_samples, read_stored
from atrous.images.windows import Window, inspect_window, load_mask_window, load_window, open_tiff

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
    tiles, strips = {"TILED": "YES", "BLOCKXSIZE": 32, "BLOCKYSIZE": 16}, {"BLOCKYSIZE": int(generator.choice([7, 99]))}
    options |= tiles if generator.random() < 0.5 else strips
    options |= {"BIGTIFF": "YES"} if generator.random() < 0.4 else {}
    options |= {"ENDIANNESS": "BIG"} if generator.random() < 0.4 else {}
    options |= {"SPARSE_OK": "TRUE"} if generator.random() < 0.3 else {}
    if options["COMPRESS"] in ("LZW", "DEFLATE", "ZSTD") and generator.random() < 0.6:
        options["PREDICTOR"] = 3 if dtype.startswith("float") and generator.random() < 0.5 else 2
    return options


def draw_window(generator: np.random.Generator, size: tuple[int, int]) -> Window:
    """Return a part of an image."""
    top, left = (int(generator.integers(side)) for side in size)
    height, width = int(generator.integers(1, size[0] - top + 1)), int(generator.integers(1, size[1] - left + 1))
    return Window(top, left, height, width, size)


def write(path: Path, pixels: np.ndarray, options: dict[str, Any], *, is_point: bool = False, **place: Any) -> None:
    """Write bands (C, H, W); where tiles may be missing, those of the lower half."""
    count, height, width = pixels.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a file has no place
        with rasterio.open(
            path, "w", "GTiff", width, height, count, dtype=pixels.dtype.name, **place, **options
        ) as file:
            stored = (slice(0, height // 2 if "SPARSE_OK" in options else height), slice(0, width))
            file.write(pixels[:, *stored], window=stored)
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
        pixels[:, :9] = np.array(nodata).astype(dtype)
        pixels[0, 9, 2] = np.array(nodata).astype(dtype)
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
    options = draw_options(generator, dtype.name)
    if dtype.name in ("uint8", "uint16") and count in (3, 9):
        options["PHOTOMETRIC"] = "RGB"
    write(path, pixels, options, is_point=is_point, **place)

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
    form = choose_form(stored)
    whole = load_bands(path, form)
    missing = np.zeros((height, width), bool) if whole.is_missing is None else whole.is_missing
    for window in (draw_window(generator, (height, width)) for _ in range(4)):
        with open_tiff(path) as opened:
            np.testing.assert_array_equal(
                opened.read_samples(window.rows, window.columns), samples[window.rows, window.columns]
            )
        part = load_window(path, window, form)
        np.testing.assert_array_equal(part.image, whole.image[window.rows, window.columns])
        here = np.zeros(window.size, bool) if part.is_missing is None else part.is_missing
        np.testing.assert_array_equal(here, missing[window.rows, window.columns])
    if form.is_photo and dtype == np.uint8:
        colours = np.moveaxis(np.repeat(expected, 3, axis=0) if count == 1 else expected, 0, 2)
        np.testing.assert_array_equal(whole.image, np.where(np.moveaxis(is_valid, 0, 2), colours, 0))
    is_empty = np.moveaxis(~is_valid, 0, 2) if stored.num_bands == stored.num_colours else None
    if is_empty is not None and of_file is not None:
        np.testing.assert_array_equal(find_empty(samples, stored.nodata), is_empty)
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


@pytest.mark.parametrize(
    "layout", [{"TILED": "YES", "BLOCKXSIZE": 16, "BLOCKYSIZE": 16}, {"BLOCKYSIZE": 5}, {"BLOCKYSIZE": 60}]
)
@pytest.mark.parametrize("compression", ["NONE", "DEFLATE"])
@pytest.mark.parametrize(("dtype", "count"), [("uint8", 1), ("uint8", 3), ("uint16", 1), ("uint16", 3), ("int16", 2)])
def test_tiles_that_are_not_stored_are_what_rasterio_says(dtype, count, compression, layout, tmp_path):
    path, window = tmp_path / "a.tif", Window(3, 7, 50, 40, (60, 70))
    for nodata, rows in ((None, 30), (9, 30), (9, 0)):
        options = {"SPARSE_OK": "TRUE", "COMPRESS": compression, **layout} | (
            {"PHOTOMETRIC": "RGB"} if count == 3 else {}
        )
        with rasterio.open(
            path, "w", "GTiff", 70, 60, count, crs=32633, transform=rasterio.Affine(*range(6)), dtype=dtype,
            nodata=nodata, **options
        ) as file:  # fmt: skip
            if rows:
                file.write(np.full((count, rows, 70), 5, dtype), window=(slice(0, rows), slice(0, 70)))
        with rasterio.open(path) as file:
            expected = np.moveaxis(file.read(), 0, 2)
        form = choose_form(read_stored(path))
        np.testing.assert_array_equal(load_samples(path), expected)
        whole, part = load_bands(path, form), load_window(path, window, form)
        np.testing.assert_array_equal(part.image, whole.image[window.rows, window.columns])
        is_missing = np.zeros((60, 70), bool) if whole.is_missing is None else whole.is_missing
        np.testing.assert_array_equal(is_missing, (expected == nodata).all(axis=2))
        if dtype == "uint8":
            np.testing.assert_array_equal(whole.image[..., :1], np.where(expected == nodata, 0, expected)[..., :1])
        if count == 1:
            np.testing.assert_array_equal(load_mask(path), expected[..., 0])
            np.testing.assert_array_equal(
                load_mask_window(path, window).values, expected[window.rows, window.columns, 0]
            )


@pytest.mark.parametrize("overviews", [(), (2, 4)])
@pytest.mark.parametrize("layout", [{"TILED": "YES", "BLOCKXSIZE": 16, "BLOCKYSIZE": 16}, {"BLOCKYSIZE": 5}])
@pytest.mark.parametrize(
    ("dtype", "count", "nodata", "kind"),
    [
        ("uint8", 1, None, {}),
        ("uint8", 3, None, {"PHOTOMETRIC": "RGB"}),
        ("uint8", 3, None, {"PHOTOMETRIC": "YCBCR", "COMPRESS": "JPEG"}),
        ("uint16", 3, 9, {"PHOTOMETRIC": "RGB"}),
        ("int16", 6, None, {"COMPRESS": "LZW"}),
    ],
)
def test_a_mask_in_the_file_says_which_pixels_have_data(dtype, count, nodata, kind, layout, overviews, tmp_path):
    path, window = tmp_path / "a.tif", Window(3, 7, 50, 40, (60, 70))
    generator = np.random.default_rng(0)
    pixels = generator.integers(1, 100, (count, 60, 70)).astype(dtype)
    is_jpeg = kind.get("COMPRESS") == "JPEG"
    if is_jpeg:  # decoders differ in the last bits: less where there is no noise
        pixels = np.arange(70, dtype=dtype)[None, None].repeat(60, 1).repeat(count, 0)
    is_valid = np.ones((60, 70), bool)
    is_valid[20:45, 30:] = False
    place = {"crs": 32633, "transform": rasterio.Affine(*range(6)), "nodata": nodata}
    options = layout | kind | ({"BLOCKYSIZE": 16} if "COMPRESS" in kind and "TILED" not in layout else {})
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        with rasterio.open(path, "w", "GTiff", 70, 60, count, dtype=dtype, **place, **options) as file:
            file.write(pixels)
            file.write_mask(is_valid)
        if overviews:
            with rasterio.open(path, "r+") as file:
                file.build_overviews(overviews)
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read_masks(1) > 0, is_valid)
        expected = np.moveaxis(file.read(), 0, 2)
    stored = read_stored(path)
    is_missing = ~is_valid | ((pixels == nodata).all(axis=0) if nodata else False)
    whole, part = load_bands(path, choose_form(stored)), load_window(path, window, choose_form(stored))
    np.testing.assert_array_equal(whole.is_missing, is_missing)
    np.testing.assert_array_equal(part.is_missing, is_missing[window.rows, window.columns])
    np.testing.assert_array_equal(part.image, whole.image[window.rows, window.columns])
    assert (whole.image[is_missing] == choose_form(stored).value_range[0]).all()
    np.testing.assert_allclose(load_samples(path), expected, atol=3 * is_jpeg)
    if dtype == "uint8":
        colours = np.broadcast_to(expected, (60, 70, 3)).astype(int)
        np.testing.assert_allclose(whole.image[~is_missing], colours[~is_missing], atol=3 * is_jpeg)
    for _, traits in (inspect_image(path), inspect_window(path, Window(0, 0, 60, 70, (60, 70)))):
        assert traits.missing == is_missing.mean()


@pytest.mark.parametrize("seed", range(40))
def test_a_mask_is_what_rasterio_says(seed, tmp_path):
    generator = np.random.default_rng(seed)
    dtype = np.dtype(DTYPES[seed % len(DTYPES)])
    mask = generator.integers(-3 if dtype.kind in "if" else 0, 9, (1, *generator.integers(3, 70, 2))).astype(dtype)
    path = tmp_path / "a.tif"
    write(path, mask, draw_options(generator, dtype.name), crs=32633, transform=rasterio.Affine(*range(6)))
    with rasterio.open(path) as file:
        expected = file.read(1)
    np.testing.assert_array_equal(load_mask(path), expected)
    window = draw_window(generator, mask.shape[1:])
    np.testing.assert_array_equal(load_mask_window(path, window).values, expected[window.rows, window.columns])


def tie(*numbers: float) -> tuple[int, str, int, tuple[float, ...], bool]:
    return (33922, "d", len(numbers), numbers, True)


PLACES = {
    "negative height": [(33550, "d", 3, (2.0, -3.0, 0.0), True), tie(0, 0, 0, 100, 200, 0)],
    "negative width": [(33550, "d", 3, (-2.0, 3.0, 0.0), True), tie(4, 5, 0, 100, 200, 0)],
    "two points": [(33550, "d", 3, (2.0, 3.0, 0.0), True), tie(0, 0, 0, 100, 200, 0, 5, 5, 0, 110, 185, 0)],
    "said twice": [
        (33550, "d", 3, (2.0, 3.0, 0.0), True),
        tie(0, 0, 0, 100, 200, 0),
        (34264, "d", 16, (1.0, 0.0, 0.0, 7.0, 0.0, -1.0, 0.0, 9.0, *(0.0,) * 7, 1.0), True),
    ],
}
KEYS = {
    "projected": (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32633),
    "no kind": (1, 1, 0, 1, 3072, 0, 1, 32633),
    "geographic": (1, 1, 0, 2, 1024, 0, 1, 2, 2048, 0, 1, 4326),
}


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("place", PLACES)
def test_tags_that_gdal_does_not_write_are_read_as_it_reads_them(place, keys, tmp_path):
    tifffile, path = pytest.importorskip("tifffile"), tmp_path / "a.tif"
    tags = [*PLACES[place], (34735, "H", len(KEYS[keys]), KEYS[keys], True)]
    tifffile.imwrite(path, np.ones((20, 30), np.uint8), metadata=None, extratags=tags)
    found = read_place(path)
    with rasterio.open(path) as file:
        assert (*found.matrix[0], *found.matrix[1]) == tuple(file.transform)[:6]
        assert found.epsg == file.crs.to_epsg()


@pytest.mark.parametrize("byteorder", ["LITTLE", "BIG"])
def test_labels_keep_the_camera_model_of_their_image(byteorder, tmp_path):
    image, out = tmp_path / "a.tif", tmp_path / "labels.tif"
    numbers = iter(np.linspace(0.1, 9.7, 90))
    fields = {
        name: [next(numbers) for _ in range(20)]
        for name in ("line_num_coeff", "line_den_coeff", "samp_num_coeff", "samp_den_coeff")
    }
    for name in ("height", "lat", "line", "long", "samp"):
        fields |= {f"{name}_off": next(numbers), f"{name}_scale": next(numbers)}
    write(image, np.ones((1, 20, 30), np.uint8), {"ENDIANNESS": byteorder}, rpcs=rasterio.rpc.RPC(**fields))
    assert is_georeferenced(image)
    assert read_place(image) is None
    tiff.save_placed_labels(out, np.ones((20, 30), np.uint8), image)
    with rasterio.open(image) as before, rasterio.open(out) as after:
        assert before.rpcs is not None
        assert after.rpcs == before.rpcs
