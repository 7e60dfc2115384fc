from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from atrous.images.place import find_place, is_georeferenced, read_place

UTM = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32633)
DEGREES = (1, 1, 0, 3, 1024, 0, 1, 2, 1025, 0, 1, 1, 2048, 0, 1, 4326)
SCALE, TIE = (0.5, 0.25, 0.0), (0.0, 0.0, 0.0, 400000.0, 5000000.0, 0.0)


def make_tags(keys=UTM, **more):
    return {33550: SCALE, 33922: TIE, 34735: keys} | {int(code[1:]): value for code, value in more.items()}


def save(path, tags, compression=None):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    kinds = {33550: 12, 33922: 12, 34264: 12, 34735: 3, 34736: 12, 274: 3}
    for code, value in tags.items():
        info.tagtype[code] = kinds[code]
        info[code] = value
    Image.new("RGB", (4, 3)).save(path, "TIFF", tiffinfo=info, compression=compression)


def test_a_file_says_where_it_is(tmp_path):
    save(tmp_path / "a.tif", make_tags())
    place = read_place(tmp_path / "a.tif")
    assert (place.epsg, place.unit_m, place.pixel_m2) == (32633, 1.0, 0.125)
    points = np.array([[0.0, 0.0], [4.0, 3.0]])
    np.testing.assert_array_equal(place.locate(points), [[400000.0, 5000000.0], [400002.0, 4999999.25]])
    np.testing.assert_allclose(place.find_points(place.locate(points)), points, atol=1e-9)


def test_rasterio_agrees(tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
    save(tmp_path / "a.tif", make_tags())
    with rasterio.open(tmp_path / "a.tif") as other:
        place = read_place(tmp_path / "a.tif")
        assert place.epsg == other.crs.to_epsg()
        assert tuple(other.transform)[:6] == (*place.matrix[0], *place.matrix[1])


def test_degrees_have_no_area():
    place = find_place(make_tags(DEGREES))
    assert (place.epsg, place.unit_m, place.pixel_m2) == (4326, None, None)


def test_a_point_is_the_centre_of_its_pixel():
    place = find_place(make_tags((1, 1, 0, 2, 1024, 0, 1, 1, 1025, 0, 1, 2)))
    np.testing.assert_array_equal(place.locate(np.array([[0.5, 0.5]])), [[400000.0, 5000000.0]])
    assert place.epsg is None


def test_a_matrix_may_turn_the_image():
    matrix = (0.0, 2.0, 0.0, 10.0, 3.0, 0.0, 0.0, 20.0, *(0.0,) * 8)
    place = find_place({34264: matrix, 34735: UTM})
    np.testing.assert_array_equal(place.locate(np.array([[1.0, 0.0], [0.0, 1.0]])), [[10.0, 23.0], [12.0, 20.0]])
    assert place.pixel_m2 == 6.0


@pytest.mark.parametrize(
    ("keys", "numbers", "unit"),
    [
        ((3076, 0, 1, 9001), (), 1.0),
        ((3076, 0, 1, 9002), (), 0.3048),
        ((3076, 0, 1, 9003), (), 1200 / 3937),
        ((3076, 0, 1, 9999), (), None),
        ((3076, 0, 1, 32767, 3077, 34736, 1, 1), (7.0, 2.5), 2.5),
        ((3076, 0, 1, 32767, 3077, 34736, 1, 2), (7.0, 2.5), None),
        ((3076, 0, 1, 32767), (), None),
        ((), (), None),
    ],
)
def test_the_unit_is_what_the_keys_say(keys, numbers, unit):
    tags = make_tags((1, 1, 0, 3, 1024, 0, 1, 1, 3072, 0, 1, 2263, *keys), _34736=numbers)
    assert find_place(tags).unit_m == unit


def test_mercators_areas_are_not_given():
    place = find_place(make_tags((1, 1, 0, 3, 1024, 0, 1, 1, 3072, 0, 1, 3857, 3076, 0, 1, 9001)))
    assert (place.unit_m, place.pixel_m2) == (1.0, None)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {34735: UTM},
        make_tags(_274=6),
        make_tags(_33550=(0.0, 1.0, 0.0)),
        make_tags(_33550=(float("nan"), 1.0, 0.0)),
        make_tags(_33550=(float("inf"), 1.0, 0.0)),
        make_tags(_33922=(0.0, 0.0)),
        {34264: (0.0,) * 16},
    ],
)
def test_what_is_no_place_is_none(tags):
    assert find_place(tags) is None


def test_points_on_the_ground_say_where_a_file_is(tmp_path):
    points = np.array([(0, 0, 0, 4e5, 5e6, 0), (4, 0, 0, 4e5 + 2, 5e6, 0), (0, 3, 0, 4e5, 5e6 - 1, 0)]).ravel()
    for name, tags, expected in (
        ("a", make_tags(), True),
        ("b", {33922: tuple(points.tolist()), 34735: UTM}, True),
        ("c", make_tags(_274=6), False),
        ("d", {}, False),
    ):
        save(tmp_path / f"{name}.tif", tags)
        assert is_georeferenced(tmp_path / f"{name}.tif") == expected
    assert read_place(tmp_path / "b.tif") is None
    assert not is_georeferenced(tmp_path / "gone.tif")


@pytest.mark.parametrize(
    ("tags", "rows"),
    [
        ({33550: (2.0, -3.0, 0.0)}, (-3.0, 5_000_000.0)),
        ({33922: (*TIE, 5.0, 5.0, 0.0, 0.0, 0.0, 0.0)}, (-0.25, 5_000_000.0)),
        ({34264: (1.0, 0.0, 0.0, 7.0, 0.0, -1.0, 0.0, 9.0, *(0.0,) * 8)}, (-0.25, 5_000_000.0)),
    ],
)
def test_tags_that_break_the_rules_are_read_as_gdal_reads_them(tags, rows):
    assert find_place(make_tags() | tags).matrix[1] == (0.0, *rows)


def test_a_projected_system_needs_no_kind():
    assert find_place(make_tags((1, 1, 0, 1, 3072, 0, 1, 32633))).epsg == 32633


def test_a_camera_model_says_where_a_file_is(tmp_path):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info.tagtype[50844], info[50844] = 12, (1.0,) * 92
    Image.new("L", (4, 3)).save(tmp_path / "a.tif", tiffinfo=info)
    assert is_georeferenced(tmp_path / "a.tif")
    assert read_place(tmp_path / "a.tif") is None


def test_damaged_and_other_files_have_no_place(tmp_path):
    save(tmp_path / "a.tif", make_tags())
    content = (tmp_path / "a.tif").read_bytes()
    for length in (0, 3, 8, 20, len(content) // 2, len(content) - 30):
        (tmp_path / "b.tif").write_bytes(content[:length])
        read_place(tmp_path / "b.tif")
    Image.new("L", (2, 2)).save(tmp_path / "c.png")
    assert read_place(tmp_path / "c.png") is None
    assert read_place(tmp_path / "gone.tif") is None
