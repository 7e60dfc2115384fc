"""GeoJSON: coordinates of the image's system or pixels, holes, and what other programs write."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

import atrous
from annotated import save_image
from atrous.core.errors import DataError

UTM = (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32633)
DEGREES = (1, 1, 0, 2, 1024, 0, 1, 2, 2048, 0, 1, 4326)


def save_raster(path, keys, scale=(2.0, 0.5, 0.0), size=(30, 20)):
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for code, kind, value in ((33550, 12, scale), (33922, 12, (0.0, 0.0, 0.0, 10.0, 50.0, 0.0)), (34735, 3, keys)):
        info.tagtype[code] = kind
        info[code] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path, tiffinfo=info)


def save_data(folder, keys):
    save_raster(folder / "images" / "a.tif", keys)
    mask = np.zeros((20, 30), np.uint8)
    mask[4:16, 5:25] = 3
    mask[8:12, 10:20] = 0
    (folder / "masks").mkdir()
    Image.fromarray(mask).save(folder / "masks" / "a.png")
    (folder / "atrous.yaml").write_text("data:\n  classes: {0: background, 3: roof}\n")
    return mask


def compute_area(ring):
    x, y = np.array(ring).T
    return float(x[:-1] @ y[1:] - x[1:] @ y[:-1]) / 2


@pytest.mark.parametrize(
    ("keys", "name", "m2"),
    [(UTM, "urn:ogc:def:crs:EPSG::32633", 200.0), (DEGREES, "urn:ogc:def:crs:OGC:1.3:CRS84", None)],
)
def test_polygons_are_in_the_system_of_the_image(keys, name, m2, tmp_path):
    mask = save_data(tmp_path / "data", keys)
    atrous.convert(tmp_path / "data", tmp_path / "out", to_format="geojson", progress=False)
    content = json.loads((tmp_path / "out" / "images" / "a.geojson").read_text())
    assert content["crs"]["properties"]["name"] == name
    (feature,) = content["features"]
    assert feature["properties"]["class"] == "roof"
    assert feature["properties"].get("m2") == m2
    outer, hole = feature["geometry"]["coordinates"]
    assert outer[0] == outer[-1]
    assert (compute_area(outer) > 0, compute_area(hole) < 0) == (True, True)  # counterclockwise, and clockwise
    left, top = np.min(outer, axis=0)[0], np.max(outer, axis=0)[1]
    assert (left, top) == (pytest.approx(10 + 2 * 5, abs=0.51), pytest.approx(50 - 0.5 * 4, abs=0.13))
    result = atrous.convert(tmp_path / "out", tmp_path / "again", classes={3: "roof"}, progress=False)
    assert result.problems == ()
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "again" / "masks" / "a.png")), mask)


def write(folder, content, image="photo.png"):
    if not image.endswith(".tif"):
        save_image(folder / image)
    (folder / "photo.geojson").write_text(json.dumps({"type": "FeatureCollection", **content}))
    return folder


def square(left, top, side):
    return [[left, top], [left + side, top], [left + side, top + side], [left, top + side], [left, top]]


def describe(rings, kind="Polygon", **properties):
    properties = properties or {"class": "cat"}
    return {"type": "Feature", "properties": properties, "geometry": {"type": kind, "coordinates": rings}}


def test_several_polygons_with_holes_are_one_region_and_later_ones_are_on_top(tmp_path):
    first = describe([[square(0, 0, 6), square(2, 2, 2)], [square(8, 0, 3)]], "MultiPolygon")
    second = describe([square(1, 1, 1)], label="dog")
    result = atrous.convert(write(tmp_path / "in", {"features": [first, second]}), tmp_path / "out", progress=False)
    expected = np.zeros((10, 12), np.uint8)
    expected[:6, :6] = expected[:3, 8:11] = 1
    expected[2:4, 2:4] = 0
    expected[1, 1] = 2
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "out" / "masks" / "photo.png")), expected)
    assert result.label_space.names == ("background", "cat", "dog")


@pytest.mark.parametrize(
    "properties", [{"class": "cat"}, {"label": "cat"}, {"name": "cat"}, {"classification": {"name": "cat"}}]
)
def test_the_class_has_one_of_a_few_names(properties, tmp_path):
    source = write(tmp_path / "in", {"features": [describe([square(0, 0, 3)], **properties)]})
    assert atrous.convert(source, tmp_path / "out", progress=False).pixels == {0: 111, 1: 9}


@pytest.mark.parametrize(
    ("feature", "code"),
    [
        (None, "broken-annotation"),
        ({"geometry": None, "properties": {"class": "cat"}}, "broken-annotation"),
        (describe([square(0, 0, 3)], other="cat"), "unknown-label"),
        (describe([1.0, 2.0], "Point"), "broken-annotation"),
        (describe([]), "broken-annotation"),
        (describe([[[0, 0], [1, 1], [0, 0]]]), "too-few-points"),
        (describe([[[0, 0], [1, "x"], [3, 3], [0, 0]]]), "broken-annotation"),
        (describe([[[0, 0], [1, None], [3, 3], [0, 0]]]), "broken-annotation"),
        (describe([square(0, 0, 1e9)]), "outside"),
        (describe("text"), "broken-annotation"),
    ],
)
def test_what_cannot_be_drawn_is_listed(feature, code, tmp_path):
    source = write(tmp_path / "in", {"features": [feature, describe([square(0, 0, 3)])]})
    result = atrous.convert(source, tmp_path / "out", progress=False)
    assert [problem.code for problem in result.problems] == [code]
    assert result.pixels[1] == 9


@pytest.mark.parametrize("crs", [{"properties": {"name": "urn:ogc:def:crs:EPSG::4326"}}, {"properties": {}}, "text"])
def test_coordinates_of_another_system_are_refused(crs, tmp_path):
    save_raster(tmp_path / "in" / "photo.tif", UTM)
    source = write(tmp_path / "in", {"crs": crs, "features": []}, "photo.tif")
    with pytest.raises(atrous.AtrousError, match="its coordinates are of"):
        atrous.convert(source, tmp_path / "out", progress=False)


def test_an_image_whose_header_asks_for_gigabytes_is_listed(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    tags = [(256, 200_000), (257, 200_000), (258, 8), (259, 1), (262, 1), (273, 8), (277, 5), (278, 200_000), (279, 9)]
    entries = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in tags)
    (folder / "a.tif").write_bytes(struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(100))
    square = [[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]
    feature = {"properties": {"class": "roof"}, "geometry": {"type": "Polygon", "coordinates": [square]}}
    content = {"type": "FeatureCollection", "image": "a.tif", "features": [feature]}
    (folder / "a.geojson").write_text(json.dumps(content))
    with pytest.raises(DataError, match="200000x200000 pixels"):
        atrous.convert(folder, tmp_path / "out", progress=False)
