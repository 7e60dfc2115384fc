from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import atrous
from annotated import read_names, save_colours, save_image, save_mask
from atrous.core.errors import DataError
from atrous.data.convert.contracts import AnnotationError
from atrous.data.convert.mask_files import TOLERANCE, read_binary, read_colours, read_objects, read_table


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
    read = read_colours({"a": (100, 0, 0), "b": (100 + TOLERANCE + 2, 0, 0)}, [tmp_path / "a.png"])
    assert read.indices.tolist() == [[0, 0, 1, -1, -1]]
    assert "2 pixels of 1 colour" in str(read.problem)
    assert str(far) in str(read.problem)


def save_values(path, *values):
    Image.fromarray(np.array([values], np.uint8)).save(path)
    return [path]


def test_every_value_but_0_is_an_object(tmp_path):
    read = read_objects("crack", save_values(tmp_path / "a.png", 0, 3, 128, 255))
    assert (read.indices.tolist(), read.labels, read.problem) == ([[0, 1, 1, 1]], ("background", "crack"), None)


def test_values_near_0_and_255_are_background_and_a_class_and_others_are_ignored(tmp_path):
    read = read_binary("crack", save_values(tmp_path / "a.png", 0, 3, 128, 250, 255))
    assert (read.indices.tolist(), read.labels) == ([[0, 0, -1, 1, 1]], ("background", "crack"))
    assert "1 pixel of values other than 0 and 255" in str(read.problem)


def test_masks_of_0_and_1_are_binary_too_and_ids_are_not(tmp_path):
    Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1").save(tmp_path / "bits.png")
    for masks in ([tmp_path / "bits.png"], save_values(tmp_path / "a.png", 0, 1)):
        assert read_binary("crack", masks).indices.tolist() == [[0, 1]]
    assert read_binary("crack", save_values(tmp_path / "a.png", 0, 0)).indices.tolist() == [[0, 0]]
    with pytest.raises(AnnotationError, match="from 0 to 3"):
        read_binary("crack", save_values(tmp_path / "a.png", 0, 1, 3))


def convert_objects(folder):
    return atrous.convert(folder, folder.parent / "out", from_format="instances", progress=False)


def save_object(folder, name, column, height=10):
    mask = np.zeros((height, 12), np.uint8)
    mask[:, column] = 255
    save_mask(folder, name, mask, "")


@pytest.mark.parametrize(
    ("image", "form"),
    [
        ("images/a.png", "masks/a_{}.png"),
        ("images/a.png", "masks/a/{}.png"),
        ("images/a.png", "masks/a/crack-{}_mask.png"),
        ("a.png", "a-{}_mask.png"),
        ("train/a/images/a.png", "train/a/masks/0f{}.png"),
    ],
)
def test_one_mask_for_each_object_is_joined_by_image(image, form, tmp_path):
    save_image(tmp_path / "in" / image)
    for number in range(3):
        save_object(tmp_path / "in", form.format(number), 2 * number)
    result = convert_objects(tmp_path / "in")
    assert (result.problems, result.images, result.pixels) == ((), 1, {0: 90, 1: 30})


def test_masks_of_objects_are_refused_where_they_differ_in_size_or_may_be_of_two_images(tmp_path):
    for name in ("a", "b", "b_1"):
        save_image(tmp_path / "in" / "images" / f"{name}.png")
    save_object(tmp_path / "in", "masks/a_0.png", 1)
    save_object(tmp_path / "in", "masks/a_1.png", 1, height=9)
    for name in ("b_0", "b_1", "b_1_0"):  # b_1 may be an object of b
        save_object(tmp_path / "in", f"masks/{name}.png", 1)
    with pytest.raises(DataError, match="3 problems"):
        atrous.convert(
            tmp_path / "in",
            tmp_path / "none",
            from_format="instances",
            images=tmp_path / "in" / "images",
            progress=False,
        )


@pytest.mark.parametrize("form", ["binary", "voc"])
def test_two_masks_of_an_image_are_a_problem_where_one_is_read(form, tmp_path):
    folder = tmp_path / "in"
    save_colours(folder, save_image(folder / "JPEGImages" / "a.png").name, "SegmentationClass")
    save_mask(folder, "a_mask.png", np.zeros((10, 12), np.uint8), "")
    with pytest.raises(DataError, match="a_mask"):
        atrous.convert(folder, tmp_path / "out", from_format=form, progress=False)


def test_masks_of_objects_beside_those_of_classes_are_neither_masks_nor_images(tmp_path):
    """As in VOC itself, and in what CVAT exports."""
    folder = tmp_path / "in"
    folder.mkdir()
    save_colours(folder, "photo.png", "SegmentationClass")
    save_mask(folder, "photo.png", np.full((10, 12, 3), 9, np.uint8), "SegmentationObject")
    with pytest.raises(DataError, match="no image of this name"):
        atrous.convert(folder, tmp_path / "out", progress=False)
    image = save_image(folder / "JPEGImages" / "photo.png")
    assert atrous.convert(folder, tmp_path / "out", progress=False).problems == ()
    assert (tmp_path / "out" / "images" / "photo.png").read_bytes() == image.read_bytes()


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
        ("a.png", "masks/a.png"),
    ],
)
def test_masks_are_paired_by_name_in_any_of_the_usual_places(image, mask, tmp_path):
    save_image(tmp_path / "in" / image)
    save_mask(tmp_path / "in", mask, np.full((10, 12), 255, np.uint8), "")
    result = atrous.convert(tmp_path / "in", tmp_path / "out", from_format="binary", progress=False)
    assert (result.images, result.problems) == (1, ())


@pytest.mark.parametrize(
    "form", ["images/{}/a.png masks/{}/a.png", "{}/images/a.png {}/masks/a.png", "{}/a.png {}/gt/a.png"]
)
def test_masks_of_the_same_name_in_two_splits_are_not_mixed(form, tmp_path):
    for split in ("train", "val"):
        image, mask = form.format(split, split).split()
        save_image(tmp_path / "in" / image)
        save_mask(tmp_path / "in", mask, np.full((10, 12), 255 * (split == "val"), np.uint8), "")
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
