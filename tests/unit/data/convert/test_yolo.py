from __future__ import annotations

import pytest

import atrous
from annotated import save_image
from atrous.core.errors import DataError

SQUARE = "1 0.1 0.1 0.4 0.1 0.4 0.4 0.1 0.4"


def save(folder, name, *lines):
    image = save_image(folder / "in" / "images" / f"{name}.png", 10, 10)
    if lines:
        file = folder / "in" / "labels" / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(lines), encoding="utf-8")
    return image


def run(folder, names="names: [cat, dog]"):
    if names:
        (folder / "in" / "data.yaml").write_text(names, encoding="utf-8")
    return atrous.convert(folder / "in", folder / "out", progress=False)


@pytest.mark.parametrize("names", ["names: [cat, dog]", "names: {0: cat, 1: dog}", "nc: 2\nnames:\n- cat\n- dog"])
def test_the_first_class_is_1_and_0_is_background(names, tmp_path):
    save(tmp_path, "train/a", SQUARE)
    save(tmp_path, "val/b", SQUARE, "")
    result = run(tmp_path, names)
    assert (result.problems, result.pixels) == ((), {0: 182, 2: 18})
    assert result.label_space.names == ("background", "dog")
    assert (tmp_path / "out" / "masks" / "train" / "a.png").is_file()


def test_names_may_be_in_a_text_file_or_missing(tmp_path):
    save(tmp_path, "a", SQUARE)
    assert run(tmp_path, "").label_space.names == ("background", "class 2")
    (tmp_path / "in" / "classes.txt").write_text("cat\ndog\n", encoding="utf-8")
    assert atrous.convert(tmp_path / "in", tmp_path / "again", progress=False).label_space.names == (
        "background",
        "dog",
    )


def test_splits_may_be_outside_or_inside(tmp_path):
    for split in ("train", "valid"):
        save_image(tmp_path / "in" / split / "images" / "a.png", 10, 10)
        file = tmp_path / "in" / split / "labels" / "a.txt"
        file.parent.mkdir()
        file.write_text(SQUARE, encoding="utf-8")
    assert (run(tmp_path).problems, run_names(tmp_path)) == ((), ["train/a.png", "val/a.png"])


def run_names(folder):
    masks = folder / "out" / "masks"
    return sorted(path.relative_to(masks).as_posix() for path in masks.rglob("*.png"))


def test_images_without_a_file_beside_others_are_background(tmp_path):
    save(tmp_path, "a", SQUARE)
    save(tmp_path, "b")
    save_image(tmp_path / "in" / "plots" / "curve.png")
    result = run(tmp_path)
    assert (result.images, result.problems) == (2, ())
    assert "images-without-annotations" in {note.code for note in result.notes}


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("1 0.5 0.5 0.1 0.1", "too-few-points"),
        ("1", "too-few-points"),
        ("1 0.1 0.2 0.3 0.4 0.5", "broken-annotation"),
        ("1 0.1 0.2 0.3 0.4 nan 0.5", "broken-annotation"),
        ("1 0.1 0.2 0.3 0.4 a 0.5", "broken-annotation"),
        ("1 0.1 0.2 0.3 0.4 1e300 0.5", "outside"),
        ("1 0.1 0.2 0.3 0.4 9e5 0.5", "outside"),
        ("1 2 2 3 2 3 3", "no-pixel"),
        ("9 0.1 0.1 0.4 0.1 0.4 0.4", "unknown-label"),
        ("-1 0.1 0.1 0.4 0.1 0.4 0.4", "unknown-label"),
        ("cat 0.1 0.1 0.4 0.1 0.4 0.4", "unknown-label"),
        ("99999999999 0.1 0.1 0.4 0.1 0.4 0.4", "unknown-label"),
    ],
)
def test_a_broken_line_is_listed_and_the_others_are_drawn(line, code, tmp_path):
    save(tmp_path, "a", SQUARE, line)
    result = run(tmp_path)
    assert [problem.code for problem in result.problems] == [code]
    assert "line 2" in result.problems[0].message
    assert result.pixels[2] == 9


@pytest.mark.parametrize(
    "names", ["[", "names: 3", "names: [[a], b]", "a: &a [*a]", "names: [" + "x, " * 400_000 + "]"]
)
def test_names_that_cannot_be_read_are_a_problem(names, tmp_path):
    save(tmp_path, "a", SQUARE)
    result = run(tmp_path, names)
    assert [problem.code for problem in result.problems] == ["broken-file"]
    assert result.label_space.names == ("background", "class 2")


def test_text_files_that_are_no_annotations_are_left_alone(tmp_path):
    save(tmp_path, "a", SQUARE)
    (tmp_path / "in" / "README.txt").write_text("See 1 2 3.", encoding="utf-8")
    assert run(tmp_path).problems == ()


def test_two_images_of_one_name_are_a_problem(tmp_path):
    save(tmp_path, "a", SQUARE)
    save_image(tmp_path / "in" / "images" / "a.jpg", 10, 10)
    with pytest.raises(DataError, match="2 images are named 'a'"):
        run(tmp_path)


def test_names_by_number_may_have_gaps(tmp_path):
    save_image(tmp_path / "in" / "photo.png")
    (tmp_path / "in" / "data.yaml").write_text("names: {1: cat, 5: dog}\n", encoding="utf-8")
    (tmp_path / "in" / "photo.txt").write_text("5 0 0 1 0 1 1 0 1\n2 0 0 1 0 1 1 0 1\n", encoding="utf-8")
    result = atrous.convert(tmp_path / "in", tmp_path / "out", progress=False)
    assert (result.label_space.ids, result.label_space.names) == ((6,), ("dog",))
    assert [(problem.code, "line 2" in problem.message) for problem in result.problems] == [("unknown-label", True)]
