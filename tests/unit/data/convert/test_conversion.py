from __future__ import annotations

import json
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import ExifTags, Image

import atrous
from annotated import HEIGHT, SAVERS, WIDTH, draw_scene, read_names, save_image
from atrous.core.errors import DataError, UsageError
from atrous.core.labels import LabelSpace
from atrous.data.convert.contracts import AnnotatedImage, Annotations, Patch, Region
from atrous.data.convert.conversion import assign_ids, number_given
from atrous.data.convert.guess import guess_format


@pytest.fixture
def source(tmp_path):
    save_image(tmp_path / "in" / "photo.png")
    SAVERS["labelme"](tmp_path / "in", "photo.png")
    return tmp_path / "in"


def annotate(*labels):
    regions = tuple(Region(label, "", lambda *_: Patch(0, 0, np.ones((1, 1), bool))) for label in labels)
    return Annotations((AnnotatedImage("", lambda: b"", "a", regions),), names=labels)


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        (("b", "a"), None, {"background": 0, "b": 1, "a": 2}),
        (("b", "a"), ["a", "b"], {"background": 0, "a": 1, "b": 2}),
        (("a",), ["Background", "a"], {"Background": 0, "a": 1}),
        (("a",), {7: "a"}, {"background": 0, "a": 7}),
        (("a",), {0: "road", 7: "a"}, {"road": 0, "a": 7}),
        (("BACKGROUND", "a"), None, {"background": 0, "a": 1, "BACKGROUND": 0}),
        (("__ignore__", "a"), None, {"background": 0, "a": 1, "__ignore__": 255}),
        (("a",), {255: "a"}, {"background": 0, "a": 255}),
        (("void", "a"), {255: "a"}, {"background": 0, "a": 255, "void": 254}),
    ],
)
def test_background_is_0_and_every_class_has_an_id_of_its_own(labels, classes, expected):
    assert assign_ids(annotate(*labels), classes and number_given(classes))[1] == expected


def test_more_classes_than_a_byte_holds_leave_an_id_for_ignored_pixels():
    space, _ = assign_ids(annotate(*(f"class {number}" for number in range(300))), None)
    assert space.num_classes == 301
    assert space.void_id not in space.ids
    assert len(LabelSpace(space.names, space.ids, ignored_ids=(space.void_id,)).ids) == 301


@pytest.mark.parametrize("classes", [["a", "a"], {1: "a", 2: "a"}, {-1: "a"}, {70000: "a"}, ["x", "background"]])
def test_classes_without_a_name_or_an_id_of_their_own_are_refused(classes):
    with pytest.raises(UsageError, match="classes"):
        assign_ids(annotate("a"), number_given(classes))


def test_a_source_that_looks_like_several_formats_or_none_is_refused(source, tmp_path):
    SAVERS["coco"](source, "photo.png")
    with pytest.raises(UsageError, match="labelme and like coco"):
        guess_format(source)
    with pytest.raises(UsageError, match="no format"):
        guess_format(tmp_path / "in" / "photo.png")


def test_a_folder_with_anything_inside_is_left_as_it_is(source, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    with pytest.raises(UsageError, match="not empty"):
        atrous.convert(source, tmp_path / "out", progress=False)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"source": "nowhere"}, DataError),
        ({"images": "nowhere"}, DataError),
        ({"images": "in/photo.png"}, UsageError),
        ({"line_width": 0}, UsageError),
        ({"from_format": "labelmee"}, ValueError),
        ({"out": "in"}, UsageError),
        ({"source": ""}, UsageError),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, error, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error):
        atrous.convert(**{"source": "in", "out": "out", "progress": False} | arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", ["zip", "tgz"])
def test_an_archive_is_read_as_its_folder(suffix, tmp_path):
    folder = tmp_path / "in"
    save_image(folder / "photo.png")
    SAVERS["labelme"](folder, "photo.png")
    (folder / "broken.json").write_text('{"shapes": [')
    plain = atrous.convert(folder, tmp_path / "plain", progress=False)
    archive = tmp_path / f"export.{suffix}"
    if suffix == "zip":
        shutil.make_archive(str(tmp_path / "export"), "zip", folder)
    else:
        with tarfile.open(archive, "w:gz") as tar:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                tar.add(path, path.relative_to(folder).as_posix())
    result = atrous.convert(archive, tmp_path / "out", progress=False)
    assert (result.pixels, result.images, len(result.problems)) == (plain.pixels, plain.images, 1)
    assert result.problems[0].file == f"{archive}/broken.json"
    record = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert record["source"] == str(archive)
    names = {path.relative_to(tmp_path / "plain") for path in (tmp_path / "plain").rglob("*")}
    assert {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*")} == names


def test_an_archive_that_leads_out_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("../annotations.xml", "<annotations/>")
    with pytest.raises(DataError, match="leads out of it"):
        atrous.convert(tmp_path / "export.zip", tmp_path / "out", progress=False)


def test_an_archive_without_annotations_has_its_own_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("notes.txt", "text")
    with pytest.raises(UsageError, match=r"export\.zip is in no format") as caught:
        atrous.convert(tmp_path / "export.zip", tmp_path / "out", progress=False)
    assert "atrous-" not in str(caught.value)


def test_images_may_be_in_another_folder(source, tmp_path):
    shutil.move(source / "photo.png", tmp_path / "photo.png")
    with pytest.raises(DataError, match="images"):
        atrous.convert(source, tmp_path / "out", progress=False)
    (tmp_path / "images").mkdir()
    shutil.move(tmp_path / "photo.png", tmp_path / "images" / "photo.png")
    atrous.convert(source, tmp_path / "out", images=tmp_path / "images", progress=False)
    assert (read_names(tmp_path / "out") == draw_scene()).all()


def test_two_images_of_one_name_are_not_mixed(source, tmp_path):
    shutil.copy(source / "photo.png", source / "photo.jpg")
    content = json.loads((source / "photo.json").read_text(encoding="utf-8"))
    (source / "second.json").write_text(json.dumps(content | {"imagePath": "photo.jpg"}), encoding="utf-8")
    result = atrous.convert(source, tmp_path / "out", progress=False)
    assert (result.images, [problem.code for problem in result.problems]) == (1, ["duplicate-name"])


def test_folders_that_all_images_share_are_removed_and_others_kept(tmp_path):
    for place in ("data/a", "data/valid/b"):
        image = save_image(tmp_path / "in" / f"{place}.png")
        SAVERS["labelme"](image.parent, image.name)
    atrous.convert(tmp_path / "in", tmp_path / "out", progress=False)
    images = tmp_path / "out" / "images"
    assert sorted(path.relative_to(images).as_posix() for path in images.rglob("*.png")) == ["a.png", "val/b.png"]


def test_what_was_converted_can_be_trained_on(source, tmp_path):
    from atrous.config.load import load_config
    from atrous.data.build import build_splits

    shutil.copy(source / "photo.png", source / "other.png")
    SAVERS["labelme"](source, "other.png").rename(source / "other.json")
    SAVERS["labelme"](source, "photo.png")
    atrous.convert(source, tmp_path / "out", progress=False)
    splits = build_splits(load_config(options={"data.source": str(tmp_path / "out")}).config.data)
    assert splits.train.label_space.names == ("background", "cat", "dog")
    assert (len(splits.train), len(splits.val)) == (1, 1)


@pytest.mark.parametrize("form", ["labelme", "coco", "cvat", "geojson", "yolo"])
def test_an_image_that_is_missing_is_not_replaced_by_another_of_its_name(form, tmp_path):
    for number, place in enumerate(("a", "b")):
        (tmp_path / "in" / place).mkdir(parents=True)
        name = f"{place}/photo.png" if form in ("coco", "cvat") else "photo.png"
        file = SAVERS[form](tmp_path / "in" / place, name)
        if not number and form != "coco":  # whose files would contradict each other
            file.write_text(file.read_text(encoding="utf-8").replace('"cat"', '"cow"'), encoding="utf-8")
    if form == "yolo":
        (tmp_path / "in" / "a" / "photo.txt").write_text("0 0 0 1 0 1 1 0 1\n", encoding="utf-8")
    save_image(tmp_path / "in" / "b" / "photo.png")
    result = atrous.convert(tmp_path / "in", tmp_path / "out", from_format=form, progress=False)
    assert [(problem.code, "photo" in problem.message) for problem in result.problems] == [("missing-image", True)]
    assert (read_names(tmp_path / "out") == draw_scene()).all()


def test_names_that_cannot_be_told_apart_are_both_listed(tmp_path):
    save_image(tmp_path / "in" / "images" / "photo.png")
    for place in ("a", "b"):
        (tmp_path / "in" / place).mkdir()
        SAVERS["cvat"](tmp_path / "in" / place, f"{place}/photo.png")
    with pytest.raises(DataError, match=r"2 problems.*may be that of"):
        atrous.convert(tmp_path / "in", tmp_path / "out", progress=False)


@pytest.mark.parametrize("form", ["labelme", "coco", "cvat", "label-studio"])
def test_images_are_annotated_as_they_are_shown(form, tmp_path):
    """A camera stores what it sees on its side, and says so."""
    (tmp_path / "in").mkdir()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stored = Image.new("RGB", (HEIGHT, WIDTH))
    stored.save(tmp_path / "in" / "photo.png", exif=exif)
    SAVERS[form](tmp_path / "in", "photo.png")
    assert atrous.convert(tmp_path / "in", tmp_path / "out", progress=False).problems == ()
    assert (read_names(tmp_path / "out") == draw_scene()).all()
    exif[ExifTags.Base.Orientation] = 8
    stored.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "in" / "photo.png", exif=exif)
    with pytest.raises(DataError, match="it was annotated unrotated"):
        atrous.convert(tmp_path / "in", tmp_path / "again", progress=False)
