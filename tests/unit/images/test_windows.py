from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from atrous.core.errors import DataError
from atrous.core.inputs import PHOTO, ImageForm
from atrous.images.bands import Bands, choose_form, load_bands
from atrous.images.decode import load_stored_mask
from atrous.images.samples import inspect_image, read_stored
from atrous.images.windows import Window, inspect_window, load_mask_window, load_window, open_tiff

tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")

SIZE = (131, 170)
LAYOUTS: dict[str, dict[str, object]] = {
    "tiles": {"tile": (32, 48), "compression": "zlib"},
    "planes of tiles": {"tile": (32, 48), "compression": "lzw", "predictor": True, "planarconfig": "separate"},
    "plain tiles": {"tile": (16, 16), "byteorder": ">"},
    "strips": {"rowsperstrip": 7, "compression": "zlib"},
    "planes of strips": {"rowsperstrip": 7, "compression": "zstd", "planarconfig": "separate"},
    "plain rows": {},
    "plain planes": {"planarconfig": "separate", "byteorder": ">"},
    "BigTIFF": {"tile": (64, 64), "bigtiff": True, "compression": "zlib"},
    "big-endian BigTIFF": {"tile": (64, 64), "bigtiff": True, "byteorder": ">"},
}
KINDS = ("uint8", "uint16", "int16", "float32")
SIX = (0, 1, 2, 3, 4, 5)


def draw(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """Draw values of a type, a corner of 0."""
    pixels = np.random.default_rng(seed).integers(1, 250, shape).astype(dtype)
    pixels[:40, :60] = 0
    return pixels


def write(path: Path, pixels: np.ndarray, nodata: str | None = None, **options: object) -> Path:
    tags = [] if nodata is None else [(42113, "s", 0, nodata, True)]
    if options.get("planarconfig") == "separate":
        pixels = np.moveaxis(pixels, -1, 0)
    elif pixels.ndim == 3:
        options["planarconfig"] = "contig"
    options = {"photometric": "minisblack", **options}
    tifffile.imwrite(path, pixels, metadata=None, extratags=tags, **options)
    return path


def draw_windows(count: int = 12) -> list[Window]:
    random = np.random.default_rng(1)
    found = [Window(0, 0, *SIZE, SIZE)]
    for _ in range(count):
        top, left = (int(random.integers(side)) for side in SIZE)
        height, width = int(random.integers(1, SIZE[0] - top + 1)), int(random.integers(1, SIZE[1] - left + 1))
        found.append(Window(top, left, height, width, SIZE))
    return found


def require_equal(part: Bands, whole: Bands, window: Window) -> None:
    np.testing.assert_array_equal(part.image, whole.image[window.rows, window.columns])
    assert part.image.dtype == whole.image.dtype
    missing = np.zeros(SIZE, dtype=bool) if whole.is_missing is None else whole.is_missing
    here = np.zeros(window.size, dtype=bool) if part.is_missing is None else part.is_missing
    np.testing.assert_array_equal(here, missing[window.rows, window.columns])


def test_a_part_of_a_window_is_a_window_of_the_image() -> None:
    pixels, window = np.arange(np.prod(SIZE)).reshape(SIZE), Window(20, 30, 40, 50, SIZE)
    part = window.cut(slice(3, 17), slice(5, 50))
    assert (part.size, part.whole, part.label) == ((14, 45), SIZE, "@y23x35")
    expected = pixels[window.rows, window.columns][3:17, 5:50]
    np.testing.assert_array_equal(pixels[part.rows, part.columns], expected)


@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_windows_equal_the_whole_image_cropped(layout: str, dtype: str, tmp_path: Path) -> None:
    path = write(tmp_path / "image.tif", draw((*SIZE, 6), dtype), "0", **LAYOUTS[layout])
    kept = dtype if dtype in ("uint8", "uint16") else "float32"
    form = ImageForm((3, 0, 5), kept, (0, 250))
    whole = load_bands(path, form)
    assert whole.is_missing is not None
    for window in draw_windows():
        require_equal(load_window(path, window, form), whole, window)


@pytest.mark.parametrize("nodata", [None, "0"])
@pytest.mark.parametrize(
    ("dtype", "bands", "options"),
    [
        ("uint8", 3, {"photometric": "rgb"}),
        ("uint16", 3, {"photometric": "rgb"}),
        ("uint8", 4, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        ("uint8", 1, {}),
        ("uint16", 1, {}),
        ("uint8", 1, {"photometric": "miniswhite"}),
        ("uint8", 1, {"photometric": "palette", "colormap": draw((256, 3), "uint16").T * 257}),
    ],
)
def test_windows_of_photos_equal_the_whole_photo_cropped(
    dtype: str, bands: int, options: dict[str, object], nodata: str | None, tmp_path: Path
) -> None:
    pixels = draw((*SIZE, bands), dtype)
    path = write(tmp_path / "image.tif", pixels if bands > 1 else pixels[..., 0], nodata, tile=(32, 32), **options)
    whole = load_bands(path, PHOTO)
    for window in draw_windows():
        require_equal(load_window(path, window), whole, window)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32"])
@pytest.mark.parametrize("options", [{"tile": (32, 48), "compression": "zlib"}, {"rowsperstrip": 9}])
def test_windows_of_masks_hold_the_numbers_of_the_whole_mask(
    dtype: str, options: dict[str, object], tmp_path: Path
) -> None:
    pixels = draw(SIZE, dtype)
    pixels[60:, 60:] = -3 if dtype in ("int16", "int32", "float32") else 7
    path = write(tmp_path / "mask.tif", pixels, **options)
    for window in draw_windows():
        found = load_mask_window(path, window).values
        np.testing.assert_array_equal(found, pixels[window.rows, window.columns])


@pytest.mark.parametrize("in_colours", [False, True])
@pytest.mark.parametrize("photometric", ["palette", "rgb", "minisblack", "miniswhite"])
def test_masks_in_windows_are_read_as_whole_masks_are(photometric: str, in_colours: bool, tmp_path: Path) -> None:
    pixels = draw(SIZE, "uint8")
    options: dict[str, object] = {"photometric": photometric}
    if photometric == "palette":
        options["colormap"] = draw((256, 3), "uint16").T * 257
    if photometric == "rgb":
        pixels = np.dstack([pixels] * 3)
    path = write(tmp_path / "mask.tif", pixels, tile=(32, 32), **options)
    whole = load_stored_mask(path, in_colours=in_colours).values
    for window in draw_windows(5):
        found = load_mask_window(path, window, in_colours=in_colours).values
        np.testing.assert_array_equal(found, whole[window.rows, window.columns])


def test_missing_tiles_have_no_data(tmp_path: Path) -> None:
    tiles = iter([b"", np.full((32, 32, 6), 5, "uint16").tobytes(), b"", b""])
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, tiles, shape=(64, 64, 6), dtype="uint16", tile=(32, 32), photometric="minisblack",
                     planarconfig="contig", metadata=None, extratags=[(42113, "s", 0, "9", True)])  # fmt: skip
    form = ImageForm(SIX, "uint16", (0, 10))
    whole, window = load_bands(path, form), Window(10, 20, 40, 40, (64, 64))
    part = load_window(path, window, form)
    assert whole.is_missing is not None
    assert part.is_missing is not None
    np.testing.assert_array_equal(part.image, whole.image[window.rows, window.columns])
    np.testing.assert_array_equal(part.is_missing, whole.is_missing[window.rows, window.columns])
    assert 0 < part.is_missing.sum() < part.is_missing.size


@pytest.mark.parametrize(("dtype", "bands"), [("uint8", 3), ("uint8", 1), ("uint16", 3), ("uint16", 6), ("float32", 2)])
def test_a_mask_in_the_file_says_which_pixels_have_no_data(dtype: str, bands: int, tmp_path: Path) -> None:
    path, is_valid = tmp_path / "image.tif", np.ones(SIZE, dtype=np.uint8)
    is_valid[70:100, 20:90] = 0
    pixels = draw((*SIZE, bands), dtype, 3)
    kind = {"photometric": "rgb" if bands == 3 else "minisblack", "planarconfig": "contig" if bands > 1 else None}
    with tifffile.TiffWriter(path) as file:
        file.write(pixels if bands > 1 else pixels[..., 0], tile=(32, 32), metadata=None, **kind)
        file.write(draw((20, 30), "uint8"), photometric="minisblack", subfiletype=1, metadata=None)  # an overview
        file.write(is_valid.astype(bool), photometric=4, subfiletype=4, metadata=None, rowsperstrip=9)
        file.write(is_valid[:40].astype(bool), photometric=4, subfiletype=4, metadata=None)  # of no page here
    form = choose_form(read_stored(path))
    whole = load_bands(path, form)
    np.testing.assert_array_equal(whole.is_missing, is_valid == 0)
    assert (whole.image[is_valid == 0] == form.value_range[0]).all()
    for window in draw_windows():
        require_equal(load_window(path, window, form), whole, window)
    for _, traits in (inspect_image(path), inspect_window(path, Window(0, 0, *SIZE, SIZE))):
        assert traits.missing == (is_valid == 0).mean()


def test_rows_beyond_the_end_of_the_file_are_refused_before_any_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "image.tif", draw((*SIZE, 6), "uint16"))
    with tifffile.TiffFile(path, mode="r+") as file:
        for code in (257, 278):
            file.pages.first.tags[code].overwrite(2**30)
    with pytest.raises(DataError, match=r"image\.tif: the file is truncated"):
        open_tiff(path)


@pytest.mark.parametrize("code", [273, 279])
def test_a_missing_strip_is_not_read_from_the_start_of_the_file(code: int, tmp_path: Path) -> None:
    path = write(tmp_path / "image.tif", draw((*SIZE, 6), "uint16"), "9")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags[code].overwrite(0)
    form, window = ImageForm(SIX, "uint16", (0, 10)), Window(10, 20, 40, 40, SIZE)
    for found in (load_bands(path, form), load_window(path, window, form)):
        assert found.is_missing is not None
        assert found.is_missing.all()


@pytest.mark.parametrize(("dtype", "bands"), [("uint16", 6), ("float32", 6), ("uint8", 3), ("uint16", 1)])
def test_the_traits_of_a_window_of_all_are_those_of_the_image(dtype: str, bands: int, tmp_path: Path) -> None:
    pixels = draw((*SIZE, bands), dtype)
    photometric = "rgb" if bands == 3 else "minisblack"
    path = write(
        tmp_path / "a.tif", pixels if bands > 1 else pixels[..., 0], "0", tile=(32, 32), photometric=photometric
    )
    (header, traits), (whole, expected) = inspect_window(path, Window(0, 0, *SIZE, SIZE)), inspect_image(path)
    assert (header.height, header.width, header.mode) == (whole.height, whole.width, whole.mode)
    assert traits.fingerprint == 0  # parts of one image are no duplicates of each other
    assert traits.to_json()[:-1] == expected.to_json()[:-1]


def test_what_cannot_be_read_in_parts_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    window = Window(0, 0, 5, 5, SIZE)
    path = write(tmp_path / "one.tif", draw(SIZE, "uint8"), compression="zlib", rowsperstrip=SIZE[0])
    monkeypatch.setattr("atrous.images.tiff.MOST_BYTES_AT_ONCE", 10_000)
    with pytest.raises(DataError, match=r"one.tif: strips of 131 x 170 pixels are too large to decode") as caught:
        load_window(path, window)
    assert "gdal_translate -co TILED=YES" in caught.value.hint
    path = write(tmp_path / "turned.tif", draw(SIZE, "uint8"), tile=(16, 16))
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags[262].overwrite(1)
    tifffile.imwrite(path, draw(SIZE, "uint8"), tile=(16, 16), extratags=[(274, "H", 1, 6, True)], metadata=None)
    with pytest.raises(DataError, match="rotated by an orientation tag"):
        load_window(path, window)
    path = write(tmp_path / "other.tif", draw((50, 60), "uint8"), tile=(16, 16))
    with pytest.raises(DataError, match=r"other.tif is 50x60 \(height x width\), its image is 131x170"):
        load_mask_window(path, window)
    path = write(tmp_path / "lossy.tif", np.dstack([draw(SIZE, "uint8")] * 3), tile=(16, 16), compression="jpeg",
                 photometric="rgb")  # fmt: skip
    with pytest.raises(DataError, match="compressed with losses") as caught:
        load_mask_window(path, window)
    assert caught.value.code == "lossy-mask"
    whole = (tmp_path / "cut.tif", write(tmp_path / "a.tif", draw(SIZE, "uint8"), tile=(16, 16)).read_bytes())
    whole[0].write_bytes(whole[1][:-2000])
    with pytest.raises(DataError, match=r"cut\.tif"):
        load_window(whole[0], window)
    path = write(tmp_path / "odd.tif", draw(SIZE, "uint8"), tile=(16, 16))
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags[259].overwrite(32809)
    with pytest.raises(DataError, match=r"compression (32809|THUNDERSCAN)"):
        load_window(path, window)
