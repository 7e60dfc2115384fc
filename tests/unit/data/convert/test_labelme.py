from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

import atrous
from annotated import HEIGHT, WIDTH, read_names, save_image
from atrous.core.errors import DataError

BOX = [[1, 1], [3, 3]]


def encode(array) -> str:
    file = io.BytesIO()
    Image.fromarray(np.asarray(array, np.uint8)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def convert_shapes(folder, *shapes, with_image=True, **fields):
    if with_image:
        save_image(folder / "in" / "photo.png")
    content = {"shapes": list(shapes), "imagePath": "photo.png", "imageHeight": HEIGHT, "imageWidth": WIDTH} | fields
    (folder / "in").mkdir(exist_ok=True)
    (folder / "in" / "photo.json").write_text(json.dumps(content), encoding="utf-8")
    return atrous.convert(folder / "in", folder / "out", from_format="labelme", progress=False)


def shape(kind, points=BOX, label="cat", **fields):
    return {"label": label, "points": points, "shape_type": kind, **fields}


@pytest.mark.parametrize(
    ("drawn", "pixels"),
    [
        (shape("rectangle", [[1, 1], [3, 1], [3, 3], [1, 3]]), 9),
        (shape("polygon", [[1, 1], [3, 1], [3, 3], [1, 3]]), 9),
        (shape(None, [[1, 1], [3, 1], [3, 3], [1, 3]]), 9),
        (shape("oriented_rectangle", [[1, 1], [3, 1], [3, 3], [1, 3]]), 9),
        (shape("rectangle"), 9),
        (shape("circle", [[5, 5], [5, 6]]), 9),
        (shape("line", [[0, 5], [11, 5]]), 9 * 12),
        (shape("linestrip", [[0, 5], [5, 5], [11, 5]]), 9 * 12),
        (shape("mask", mask=encode([[1, 0, 1], [0, 0, 0], [1, 0, 1]])), 4),
    ],
)
def test_every_shape_is_drawn(drawn, pixels, tmp_path):
    result = convert_shapes(tmp_path, drawn)
    assert result.problems == ()
    assert result.pixels[1] == pytest.approx(pixels, abs=4 if drawn["shape_type"] == "circle" else 0)


def test_a_circle_that_would_take_minutes_is_listed(tmp_path):
    result = convert_shapes(tmp_path, shape("circle", [[5, 5], [9e5, 5]]), shape("rectangle"))
    assert [problem.code for problem in result.problems] == ["outside"]
    assert result.pixels[1] == 9


def test_a_line_has_the_width_that_is_wanted(tmp_path):
    save_image(tmp_path / "in" / "photo.png")
    content = {"shapes": [shape("line", [[0, 5], [11, 5]])], "imagePath": "photo.png"}
    (tmp_path / "in" / "photo.json").write_text(json.dumps(content), encoding="utf-8")
    assert atrous.convert(tmp_path / "in", tmp_path / "out", line_width=3, progress=False).pixels == {0: 84, 1: 36}


def test_later_shapes_are_on_top_and_overlaps_of_two_classes_are_counted(tmp_path):
    large = shape("rectangle", [[0, 0], [9, 9]], "dog")
    result = convert_shapes(tmp_path, shape("rectangle"), shape("rectangle", [[2, 2], [4, 4]]), large)
    assert result.pixels == {0: 20, 2: 100}
    assert result.overlapping_px == 14
    assert [note.code for note in result.notes] == ["unused-classes", "overlapping-pixels"]


def test_labels_of_background_and_of_ignored_pixels_are_no_classes(tmp_path):
    everything = shape("rectangle", [[0, 0], [11, 9]])
    hole, void = shape("rectangle", label="_background_"), shape("rectangle", [[6, 6], [7, 7]], "__ignore__")
    result = convert_shapes(tmp_path, everything, hole, void)
    assert (result.label_space.names, result.pixels) == (("background", "cat"), {0: 9, 1: 107, 255: 4})
    assert result.overlapping_px == 0


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (None, "broken-annotation"),
        ({}, "unknown-label"),
        (shape("rectangle", label=None), "unknown-label"),
        (shape("rectangle", label="a\x1b[31m"), "unknown-label"),
        (shape("cube"), "broken-annotation"),
        (shape("polygon"), "too-few-points"),
        (shape("rectangle", [[1, 1]]), "too-few-points"),
        (shape("rectangle", [[1, 1], [float("nan"), 2]]), "broken-annotation"),
        (shape("rectangle", [[1, 1], [1e9, 2]]), "outside"),
        (shape("rectangle", [[50, 50], [60, 60]]), "no-pixel"),
        (shape("mask"), "broken-annotation"),
        (shape("mask", mask="%%%"), "broken-annotation"),
        (shape("mask", mask=base64.b64encode(b"no image").decode()), "broken-annotation"),
        (shape("mask", mask=encode(np.ones((2, 2)))), "wrong-size"),
        (shape("mask", [[1, 1], [30, 30]], mask=encode(np.ones((30, 30)))), "outside"),
    ],
)
def test_a_broken_shape_is_listed_and_the_others_are_drawn(broken, code, tmp_path):
    result = convert_shapes(tmp_path, broken, shape("rectangle"))
    assert [problem.code for problem in result.problems] == [code]
    assert result.problems[0].file == str(tmp_path / "in" / "photo.json")
    assert "shape 1" in result.problems[0].message
    assert result.pixels[1] == 9


def test_a_class_that_was_not_named_is_ignored_and_listed(tmp_path):
    save_image(tmp_path / "in" / "photo.png")
    content = {"shapes": [shape("rectangle"), shape("rectangle", [[6, 6], [7, 7]], "dog")], "imagePath": "photo.png"}
    (tmp_path / "in" / "photo.json").write_text(json.dumps(content), encoding="utf-8")
    result = atrous.convert(tmp_path / "in", tmp_path / "out", classes=["dog"], progress=False)
    assert [(problem.code, result.pixels) for problem in result.problems] == [("unknown-label", {0: 107, 1: 4, 255: 9})]


def test_an_image_that_is_missing_is_taken_from_the_file(tmp_path):
    image = save_image(tmp_path / "elsewhere.png").read_bytes()
    result = convert_shapes(tmp_path, shape("rectangle"), with_image=False, imageData=base64.b64encode(image).decode())
    assert result.problems == ()
    assert (tmp_path / "out" / "images" / "photo.png").read_bytes() == image


@pytest.mark.parametrize("data", [None, 5, "%%", base64.b64encode(b"text").decode(), ""])
def test_an_image_that_is_neither_a_file_nor_embedded_is_an_error(data, tmp_path):
    with pytest.raises(DataError, match="no image can be converted"):
        convert_shapes(tmp_path, shape("rectangle"), with_image=False, imageData=data)
    assert not (tmp_path / "out").exists()


def test_classes_are_the_same_whatever_the_order_of_files(tmp_path):
    for name, label in (("a", "zebra"), ("b", "ant")):
        save_image(tmp_path / "in" / f"{name}.png")
        content = {"shapes": [shape("rectangle", label=label)], "imagePath": f"{name}.png"}
        (tmp_path / "in" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    result = atrous.convert(tmp_path / "in", tmp_path / "out", progress=False)
    assert result.label_space.names == ("background", "ant", "zebra")
    assert (read_names(tmp_path / "out", "a")[1:4, 1:4] == "zebra").all()


def test_images_without_annotations_are_counted_and_not_converted(tmp_path):
    save_image(tmp_path / "in" / "bare.png")
    result = convert_shapes(tmp_path, shape("rectangle"))
    assert result.images == 1
    assert "1 image without a JSON file" in str(result.notes[0])
