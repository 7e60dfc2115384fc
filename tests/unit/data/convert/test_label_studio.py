from __future__ import annotations

import json

import numpy as np
import pytest

import atrous
from annotated import HEIGHT, WIDTH, save_image
from atrous.core.errors import DataError
from atrous.data.convert.contracts import AnnotationError
from atrous.data.convert.label_studio import decode_brush

SQUARE = {"points": [[10, 10], [40, 10], [40, 40], [10, 40]]}
STROKE = [0, 0, 0, 80, 57, 27, 254, 23, 0, 183, 255, 56, 5, 191, 252, 46, 0]
"""What Label Studio's own encoder makes of an RGBA image of 4x5 (height x width) with a box of 2x3 at (1, 1)."""


def result(kind, value, labels=("cat",), size=(HEIGHT, WIDTH), **fields):
    sides = {"original_height": size[0], "original_width": size[1]}
    return {"type": kind, "value": {**value, kind: list(labels)}, **sides, **fields}


def convert_results(folder, *results, size=(HEIGHT, WIDTH), data="photo.png", tasks=None, **fields):
    save_image(folder / "in" / "photo.png", *size)
    task = {"id": 5, "data": {"image": data}, "annotations": [{"result": list(results)}], **fields}
    (folder / "in" / "tasks.json").write_text(json.dumps(tasks or [task]), encoding="utf-8")
    return atrous.convert(folder / "in", folder / "out", from_format="label-studio", progress=False)


@pytest.mark.parametrize(
    ("drawn", "pixels"),
    [
        (result("polygonlabels", SQUARE, size=(10, 10)), 9),
        (result("rectanglelabels", {"x": 10, "y": 10, "width": 30, "height": 30}, size=(10, 10)), 9),
        (result("rectanglelabels", {"x": 40, "y": 10, "width": 20, "height": 30, "rotation": 90}, size=(10, 10)), 6),
        (result("ellipselabels", {"x": 50, "y": 50, "radiusX": 12, "radiusY": 12, "rotation": 0}, size=(10, 10)), 4),
    ],
)
def test_coordinates_are_percentages(drawn, pixels, tmp_path):
    found = convert_results(tmp_path, drawn, size=(10, 10))
    assert (found.problems, found.pixels[1]) == ((), pixels)


def test_a_rectangle_turns_about_its_corner(tmp_path):
    turned = {"x": 40, "y": 10, "width": 20, "height": 30, "rotation": 90}
    convert_results(tmp_path, result("rectanglelabels", turned, size=(10, 10)), size=(10, 10))
    from PIL import Image

    mask = np.array(Image.open(tmp_path / "out" / "masks" / "photo.png"))
    assert np.argwhere(mask).min(axis=0).tolist() == [1, 1]
    assert np.argwhere(mask).max(axis=0).tolist() == [2, 3]


def test_a_brush_paints_where_it_is_opaque(tmp_path):
    found = convert_results(tmp_path, result("brushlabels", {"rle": STROKE, "format": "rle"}, size=(4, 5)), size=(4, 5))
    assert (found.problems, found.pixels) == ((), {0: 14, 1: 6})


def test_a_brush_is_decoded_bit_by_bit():
    expected = np.zeros((4, 5, 4), int)
    expected[1:3, 1:4] = 255
    assert (decode_brush(STROKE, 80).reshape(4, 5, 4) == expected).all()


@pytest.mark.parametrize(
    "rle",
    [None, "", [], [1], STROKE[:-2], STROKE[:9], [255] * 17, [256] * 17, [-1] * 17, [1.5] * 17, [None] * 17],
    ids=range(11),
)
def test_a_broken_brush_is_refused(rle):
    with pytest.raises(AnnotationError) as caught:
        decode_brush(rle, 80)
    assert caught.value.code == "broken-rle"


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (None, "broken-annotation"),
        ({"type": "polygonlabels"}, "broken-annotation"),
        (result("polygonlabels", SQUARE, labels=()), "unknown-label"),
        (result("polygonlabels", SQUARE, labels=("a", "b")), "unknown-label"),
        (result("polygonlabels", {"points": [[1, 1], [2, 2]]}), "too-few-points"),
        (result("polygonlabels", {"points": [[1, 1], [2, 2], [3, float("nan")]]}), "broken-annotation"),
        (result("polygonlabels", {}), "broken-annotation"),
        (result("rectanglelabels", {"x": 1}), "broken-annotation"),
        (result("polygonlabels", SQUARE, size=(None, 3)), "broken-annotation"),
        (result("polygonlabels", SQUARE, size=(-1, 3)), "broken-annotation"),
        (result("polygonlabels", SQUARE, image_rotation=90), "broken-annotation"),
        (result("brushlabels", {"rle": STROKE}), "broken-rle"),
    ],
)
def test_a_broken_region_is_listed_and_the_others_are_drawn(broken, code, tmp_path):
    square = result("rectanglelabels", {"x": 0, "y": 0, "width": 50, "height": 50})
    found = convert_results(tmp_path, broken, square)
    assert [problem.code for problem in found.problems] == [code]
    assert "task 5, result 1" in found.problems[0].message
    assert found.pixels[1] == 30


@pytest.mark.parametrize(
    "data",
    [
        "/data/upload/1/0123abcd-photo.png",
        "/data/local-files/?d=some/where/photo.png",
        "https://host/a%20b/photo.png?token=1",
        "s3://bucket/photo.png",
        "photo.png",
        "C:\\x\\photo.png",
    ],
)
def test_the_image_is_found_whatever_leads_to_it(data, tmp_path):
    assert convert_results(tmp_path, result("polygonlabels", SQUARE), data=data).images == 1


@pytest.mark.parametrize("tasks", [[5], [{}], [{"annotations": 3}], [{"annotations": [{"result": []}]}], {"a": 1}])
def test_tasks_without_image_or_annotations_are_problems(tasks, tmp_path):
    with pytest.raises(DataError):
        convert_results(tmp_path, tasks=tasks)


def test_tasks_that_are_not_annotated_are_skipped_and_the_last_annotation_counts(tmp_path):
    square = result("polygonlabels", SQUARE)
    rows = [{"result": []}, {"result": [square]}, {"result": [square, square], "was_cancelled": True}]
    task = {"data": {"image": "photo.png"}, "annotations": rows}
    found = convert_results(tmp_path, tasks=[task, {"data": {"image": "x.png"}, "annotations": []}])
    assert found.images == 1
    assert found.pixels[1] > 0
    assert {note.code for note in found.notes} == {"images-not-annotated", "several-annotations"}


def test_regions_for_several_sizes_are_a_problem(tmp_path):
    with pytest.raises(DataError, match="different sizes"):
        convert_results(tmp_path, result("polygonlabels", SQUARE), result("polygonlabels", SQUARE, size=(5, 5)))


def save_record(folder, *records):
    save_image(folder / "in" / "photo.png")
    (folder / "in" / "tasks.json").write_text(json.dumps(records), encoding="utf-8")
    return atrous.convert(folder / "in", folder / "out", progress=False)


def build_record(number, *values, **fields):
    sides = {"original_height": HEIGHT, "original_width": WIDTH}
    values = [{**value, **sides} for value in values]
    return {"id": 1, "image": "/data/upload/3/0123abcd-photo.png", "label": values, "annotation_id": number, **fields}


def test_json_min_is_read_and_the_latest_annotation_of_a_task_counts(tmp_path):
    """Label Studio writes the latest one first."""
    square = {**SQUARE, "closed": True, "polygonlabels": ["cat"]}
    box = {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["dog"]}
    new = build_record(2, box, square, created_at="2024-02-01T00:00:00Z", choice="indoors", boxes=[1, "a"])
    found = save_record(tmp_path, new, build_record(1, square, created_at="2024-01-01T00:00:00Z"))
    assert (found.format, found.images, found.problems) == ("label-studio", 1, ())
    assert "1 task with several annotations" in str(found.notes)
    assert found.label_space.names == ("background", "cat", "dog")
    assert sum(found.pixels.values()) == HEIGHT * WIDTH
    assert found.pixels[2] > 0


def test_a_brush_in_json_min_is_read(tmp_path):
    save_image(tmp_path / "in" / "photo.png", 4, 5)
    value = {"format": "rle", "rle": STROKE, "brushlabels": ["cat"], "original_height": 4, "original_width": 5}
    record = {"id": 1, "image": "photo.png", "tag": [value], "annotator": 1, "annotation_id": 2}
    (tmp_path / "in" / "tasks.json").write_text(json.dumps([record]), encoding="utf-8")
    found = atrous.convert(tmp_path / "in", tmp_path / "out", progress=False)
    assert (found.problems, found.pixels) == ((), {0: 14, 1: 6})


def test_a_region_may_be_labelled_by_a_tool_of_its_own(tmp_path):
    """Tags such as Polygon beside Labels: one result draws, and one has the same shape and the labels."""
    sides = {"original_height": HEIGHT, "original_width": WIDTH}
    drawn = {"id": "a", "type": "polygon", "value": SQUARE, **sides}
    labelled = {"id": "a", "type": "labels", "value": {**SQUARE, "labels": ["cat"]}, **sides}
    alone = {"id": "b", "type": "ellipse", "value": {"x": 50, "y": 50, "radiusX": 9, "radiusY": 9}, **sides}
    found = convert_results(tmp_path, drawn, labelled, alone)
    assert [(problem.code, "result 3" in problem.message) for problem in found.problems] == [("unknown-label", True)]
    assert found.pixels[1] > 0


def test_what_has_no_area_is_listed_and_what_is_not_drawn_is_left_alone(tmp_path):
    point = result("keypointlabels", {"x": 1, "y": 1, "width": 1})
    others = [
        {"type": "choices", "value": {"choices": ["indoors"]}},
        {"type": "relation", "from_id": "a", "to_id": "b"},
        {"type": "number", "value": {"number": 3}},
    ]
    mask = result("bitmasklabels", {"imageDataURL": "data:image/png;base64,"})
    found = convert_results(tmp_path, result("polygonlabels", SQUARE), point, mask, *others)
    assert ["keypointlabels" in str(found.problems[0]), "bitmasklabels" in str(found.problems[1])] == [True, True]
    assert len(found.problems) == 2
