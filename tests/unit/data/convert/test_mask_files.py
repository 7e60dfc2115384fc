from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import atrous
from annotated import read_names, save_colours, save_image, save_mask
from atrous.core.errors import DataError
from atrous.data.convert.mask_files import TOLERANCE, read_colours, read_table, read_values


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labelmap.txt", "# label:color_rgb:parts:actions\ncat:1,2,3::\ndog:4,5,6::\n"),
        ("labelmap.txt", "cat:1,2,3\n\ndog:4, 5, 6:a:b"),
        ("classes.csv", "name,r,g,b\ncat,1,2,3\ndog, 4, 5, 6\n"),
        ("classes.csv", '"cat",1,2,3\ndog,4,5,6'),
    ],
)
def test_a_table_gives_each_class_a_colour(name, text, tmp_path):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_table(tmp_path / name) == {"cat": (1, 2, 3), "dog": (4, 5, 6)}


@pytest.mark.parametrize(
    "text", ["", "#", "a:1,2,3\nb", "a:1,2,3\nb:1,2", "a:1,2,3\nb:1,2,999", "a:1,2,3\na:4,5,6", "a:1,2,3\nb:1,2,3"]
)
def test_a_table_with_anything_else_is_refused(text, tmp_path):
    (tmp_path / "labelmap.txt").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"labelmap\.txt"):
        read_table(tmp_path / "labelmap.txt")


def test_a_pixel_has_the_nearest_colour_within_the_tolerance(tmp_path):
    near, nearer, far = (100, 0, TOLERANCE), (100 + TOLERANCE, 0, 0), (100, TOLERANCE + 1, 0)
    pixels = np.array([[(100, 0, 0), near, nearer, far, far]], np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    read = read_colours({"a": (100, 0, 0), "b": (100 + TOLERANCE + 2, 0, 0)}, tmp_path / "a.png")
    assert read.indices.tolist() == [[0, 0, 1, -1, -1]]
    assert "2 pixels of 1 colour" in str(read.problem)
    assert str(far) in str(read.problem)


@pytest.mark.parametrize(
    ("most", "expected"), [(255, [[0, 0, -1, 1, 1]]), (0, [[0, 1, 1, 1, 1]])], ids=["binary", "instances"]
)
def test_values_become_background_and_a_class(most, expected, tmp_path):
    Image.fromarray(np.array([[0, 3, 128, 250, 255]], np.uint8)).save(tmp_path / "a.png")
    read = read_values("crack", most, tmp_path / "a.png")
    assert (read.indices.tolist(), read.labels) == (expected, ("background", "crack"))
    assert ("1 pixel" in str(read.problem)) == (most == 255)


def test_colours_that_no_class_has_are_ignored_and_listed_by_file(tmp_path):
    image = save_image(tmp_path / "in" / "photo.png")
    save_colours(image.parent, "photo.png")
    mask = np.array(Image.open(tmp_path / "in" / "masks" / "photo.png"))
    mask[0, 0] = (9, 200, 77)
    save_mask(tmp_path / "in", "photo.png", mask)
    result = atrous.convert(tmp_path / "in", tmp_path / "out", progress=False)
    assert [(problem.code, problem.file) for problem in result.problems] == [
        ("unknown-label", str(tmp_path / "in" / "masks" / "photo.png"))
    ]
    assert read_names(tmp_path / "out")[0, 0] == "ignored"


def test_masks_in_lossy_files_are_taken_by_the_nearest_colour(tmp_path):
    image = save_image(tmp_path / "in" / "photo.png", 32, 32)
    mask = np.zeros((32, 32), np.uint8)
    mask[:16] = 255
    (image.parent / "masks").mkdir()
    Image.fromarray(mask).save(image.parent / "masks" / "photo.jpg", quality=95)
    result = atrous.convert(image.parent, tmp_path / "out", from_format="binary", classes=["crack"], progress=False)
    assert (result.problems, result.pixels) == ((), {0: 512, 1: 512})
    assert result.label_space.names == ("background", "crack")


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("images/a.png", "masks/a.png"),
        ("a.jpg", "a_mask.png"),
        ("train/images/a.png", "train/masks/a.png"),
        ("images/a.png", "masks/a_mask.png"),
        ("a.png", "a_L.png"),
    ],
)
def test_masks_are_paired_by_name_in_any_of_the_usual_places(image, mask, tmp_path):
    save_image(tmp_path / "in" / image)
    save_mask(tmp_path / "in", mask, np.full((10, 12), 255, np.uint8), "")
    result = atrous.convert(tmp_path / "in", tmp_path / "out", from_format="binary", progress=False)
    assert (result.images, result.problems) == (1, ())


def test_masks_of_the_same_name_in_two_splits_are_not_mixed(tmp_path):
    for split in ("train", "val"):
        save_image(tmp_path / "in" / "images" / split / "a.png")
        save_mask(tmp_path / "in", f"{split}/a.png", np.full((10, 12), 255 * (split == "val"), np.uint8))
    atrous.convert(tmp_path / "in", tmp_path / "out", from_format="binary", progress=False)
    assert (read_names(tmp_path / "out", "val/a") == "object").all()
    assert (read_names(tmp_path / "out", "train/a") == "background").all()


def test_several_names_for_one_class_are_refused(tmp_path):
    with pytest.raises(DataError, match="one class"):
        atrous.convert(tmp_path, tmp_path / "out", from_format="binary", classes=["a", "b"], progress=False)


def test_pascal_vocs_colours_need_no_table(tmp_path):
    image = save_image(tmp_path / "in" / "JPEGImages" / "photo.png")
    colours = np.full((10, 12, 3), (0, 0, 0), np.uint8)
    colours[1:4, 1:4] = (64, 0, 0)
    colours[5, 5] = (224, 224, 192)
    save_mask(image.parents[1], "photo.png", colours, "SegmentationClass")
    result = atrous.convert(image.parents[1], tmp_path / "out", progress=False)
    assert (result.problems, result.pixels) == ((), {0: 110, 8: 9, 255: 1})
    assert result.label_space.names == ("background", "cat")
