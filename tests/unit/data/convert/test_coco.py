from __future__ import annotations

import json

import numpy as np
import pytest

import atrous
from annotated import CORNERS, HEIGHT, WIDTH, save_image
from atrous.core.errors import DataError
from atrous.data.convert.coco import decode_counts
from atrous.data.convert.shapes import fill_runs

SQUARE = [[1, 1, 4, 1, 4, 4, 1, 4]]
WHOLE = [[0, 0, 12, 0, 12, 10, 0, 10]]


def convert_rows(folder, *segmentations, categories=(1,), **fields):
    save_image(folder / "in" / "photo.png")
    rows = [
        {"id": number, "image_id": 7, "category_id": category, "segmentation": segmentation}
        for number, (category, segmentation) in enumerate(segmentations, start=1)
    ]
    content = {
        "images": [{"id": 7, "file_name": "photo.png", "height": HEIGHT, "width": WIDTH}],
        "annotations": rows,
        "categories": [{"id": number, "name": f"kind {number}"} for number in categories],
    }
    (folder / "in" / "all.json").write_text(json.dumps(content | fields), encoding="utf-8")
    return atrous.convert(folder / "in", folder / "out", from_format="coco", progress=False)


@pytest.mark.parametrize(
    "segmentation",
    [
        SQUARE,
        SQUARE[0],
        [[1, 1, 3, 1, 3, 4, 1, 4], [2, 1, 4, 1, 4, 4, 2, 4]],
        {"size": [10, 12], "counts": [11, 3, 7, 3, 7, 3, 86]},
        {"size": [10, 12], "counts": ";37000_2"},
    ],
)
def test_polygons_and_runs_of_either_kind_are_the_same_square(segmentation, tmp_path):
    result = convert_rows(tmp_path, (1, segmentation))
    assert (result.problems, result.pixels) == ((), {0: 111, 1: 9})


def test_a_smaller_object_is_on_top_and_overlaps_are_counted(tmp_path):
    for number, order in enumerate(([(1, SQUARE), (2, WHOLE)], [(2, WHOLE), (1, SQUARE)])):
        result = convert_rows(tmp_path / str(number), *order, categories=(1, 2))
        assert (result.pixels, result.overlapping_px) == ({1: 9, 2: 111}, 9)
        assert "the smaller object is on top" in str(result.notes[-1])


@pytest.mark.parametrize(
    ("categories", "used", "number"),
    [((7, 90), 90, 90), ((0, 1), 1, 1), ((0, 1), 0, 1), ((255, 3), 3, 1), ((255, 3), 255, 2), ((3, 70000), 70000, 2)],
)
def test_ids_of_categories_are_kept_where_they_can_be_and_0_is_background(categories, used, number, tmp_path):
    result = convert_rows(tmp_path, (used, SQUARE), categories=categories)
    assert (result.label_space.ids, result.label_space.names) == ((0, number), ("background", f"kind {used}"))
    assert ("ids-changed" in {note.code for note in result.notes}) == (number != used)


@pytest.mark.parametrize(
    ("category", "segmentation", "code"),
    [
        (5, SQUARE, "unknown-label"),
        (None, SQUARE, "unknown-label"),
        ([], SQUARE, "unknown-label"),
        (1, None, "broken-annotation"),
        (1, [], "broken-annotation"),
        (1, [[]], "too-few-points"),
        (1, [[1, 1, 2, 2]], "too-few-points"),
        (1, [[1, 1, 2, 2, float("nan"), 3]], "broken-annotation"),
        (1, [SQUARE[0], None], "broken-annotation"),
        (1, {}, "wrong-size"),
        (1, {"size": [12, 10], "counts": [120]}, "wrong-size"),
        (1, {"size": [10, 12], "counts": [119]}, "broken-rle"),
        (1, {"size": [10, 12], "counts": None}, "broken-rle"),
        (1, {"size": [10, 12], "counts": "é"}, "broken-rle"),
        (1, {"size": [10, 12], "counts": ";37000_"}, "broken-rle"),
        (1, {"size": [10, 12], "counts": "o" * 100}, "broken-rle"),
        (1, {"size": [10, 12], "counts": [120]}, "no-pixel"),
        (1, [[50, 50, 60, 50, 60, 60]], "no-pixel"),
        (1, [[-30, -30, -3, -30, -3, 900]], "no-pixel"),
    ],
)
def test_a_broken_annotation_is_listed_and_the_others_are_drawn(category, segmentation, code, tmp_path):
    result = convert_rows(tmp_path, (category, segmentation), (1, SQUARE))
    assert [problem.code for problem in result.problems] == [code]
    assert "annotation 1" in result.problems[0].message
    assert result.pixels[1] == 9


@pytest.mark.parametrize(
    "images",
    [
        [{"id": 7, "file_name": "photo.png", "height": 12, "width": 10}],
        [{"id": 7, "file_name": "gone.png"}],
        [{"id": 7}],
        [{"id": [], "file_name": "photo.png"}],
        ["photo.png"],
    ],
)
def test_without_an_image_that_fits_nothing_is_converted(images, tmp_path):
    with pytest.raises(DataError, match="no image can be converted"):
        convert_rows(tmp_path, (1, SQUARE), images=images)


@pytest.mark.parametrize(("corner", "codes"), [(12.9, []), (14.0, ["outside"]), (5000.0, ["outside"])])
def test_what_reaches_beyond_the_image_is_cut_and_listed(corner, codes, tmp_path):
    result = convert_rows(tmp_path, (1, [[8, 0, corner, 0, corner, 10, 8, 10]]))
    assert ([problem.code for problem in result.problems], result.pixels) == (codes, {0: 80, 1: 40})


def test_an_image_without_annotations_is_background(tmp_path):
    result = convert_rows(tmp_path)
    codes = [note.code for note in result.notes]
    assert (result.pixels, codes) == ({0: 120}, ["unused-classes", "images-without-annotations"])


def test_files_of_two_splits_become_splits(tmp_path):
    for split, name in (("train2017", "a"), ("val2017", "b")):
        save_image(tmp_path / "in" / split / f"{name}.png")
        content = {
            "images": [{"id": 1, "file_name": f"{name}.png"}],
            "annotations": [{"image_id": 1, "category_id": 1, "segmentation": [np.ravel(CORNERS["cat"]).tolist()]}],
            "categories": [{"id": 1, "name": "cat"}],
        }
        (tmp_path / "in" / "annotations").mkdir(exist_ok=True)
        (tmp_path / "in" / "annotations" / f"instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")
    assert atrous.convert(tmp_path / "in", tmp_path / "out", progress=False).problems == ()
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png")) == [
        "images/train/a.png",
        "images/val/b.png",
        "masks/train/a.png",
        "masks/val/b.png",
    ]


def test_strings_of_run_lengths_are_those_of_coco():
    coco = pytest.importorskip("pycocotools.mask")
    generator = np.random.default_rng(0)
    for share in (0.0, 0.01, 0.5, 0.99, 1.0):
        mask = generator.random((37, 53)) < share
        text = coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
        assert (fill_runs(decode_counts(text), 37, 53, by_column=True) == mask).all()


def test_captions_and_lists_of_images_beside_the_objects_are_skipped_and_counted(tmp_path):
    (tmp_path / "in").mkdir()
    images = [{"id": 7, "file_name": "photo.png", "height": HEIGHT, "width": WIDTH}]
    captions = {"images": images, "annotations": [{"image_id": 7, "caption": "a cat"}]}
    (tmp_path / "in" / "a_captions.json").write_text(json.dumps(captions), encoding="utf-8")
    plain = {"images": images, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "in" / "a_image_info.json").write_text(json.dumps(plain), encoding="utf-8")
    result = convert_rows(tmp_path, (1, SQUARE))
    assert (result.problems, result.pixels) == ((), {0: 111, 1: 9})
    assert "2 JSON files without annotated objects" in str(result.notes)


def test_panoptic_masks_are_refused_by_their_name(tmp_path):
    row = {"image_id": 7, "file_name": "photo.png", "segments_info": [{"id": 5, "category_id": 1}]}
    with pytest.raises(DataError, match="panoptic"):
        convert_rows(tmp_path, annotations=[row])


def test_images_that_share_an_id_are_not_converted(tmp_path):
    save_image(tmp_path / "in" / "other.png")
    images = [
        {"id": number, "file_name": name} for number, name in ((7, "photo.png"), (7, "other.png"), (8, "photo.png"))
    ]
    result = convert_rows(tmp_path, (1, SQUARE), images=images)
    assert [problem.code for problem in result.problems] == ["duplicate-name", "duplicate-name"]
    assert (result.images, result.pixels) == (1, {0: 120})


def test_a_crowd_is_of_its_class(tmp_path):
    crowd = {"size": [10, 12], "counts": [0, 60, 60]}
    rows = [{"id": 1, "image_id": 7, "category_id": 1, "iscrowd": 1, "segmentation": crowd}]
    assert convert_rows(tmp_path, annotations=rows).pixels == {0: 60, 1: 60}
