from __future__ import annotations

import json
from pathlib import Path

import pytest

from annotated import SAVERS, save_image
from atrous.cli.convert import PROBLEMS_SHOWN, parse_classes
from atrous.cli.main import main
from atrous.core.errors import UsageError


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_image(tmp_path / "in" / "photo.png")
    return SAVERS["labelme"](tmp_path / "in", "photo.png")


def test_what_was_converted_is_printed(source, capsys):
    assert main(["convert", "in", "--out", "out"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == ["classes: 0 background, 1 cat, 2 dog", "1 image, 3 classes", "out"]
    assert "in: read as labelme" in err


def test_problems_are_listed_with_their_file_and_give_exit_code_1(source, capsys):
    content = json.loads(source.read_text(encoding="utf-8"))
    content["shapes"] += [{"label": "cow", "points": [], "shape_type": "polygon"}] * (PROBLEMS_SHOWN + 2)
    source.write_text(json.dumps(content), encoding="utf-8")
    assert main(["convert", "in", "--out", "out"]) == 1
    out, err = capsys.readouterr()
    assert f"1 image, 3 classes, {PROBLEMS_SHOWN + 2} problems" in out
    assert err.count("in/photo.json: shape") == PROBLEMS_SHOWN
    assert "2 more problems: see out/conversion.json" in err
    assert len(json.loads(Path("out/conversion.json").read_text(encoding="utf-8"))["problems"]) == PROBLEMS_SHOWN + 2


def test_json_is_one_object_and_nothing_else(source, capsys):
    assert main(["convert", "in", "--out", "out", "--json", "--dry-run", "--classes", "3:dog"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["format"], found["folder"], found["images"]) == ("labelme", None, 1)
    assert found["classes"][1] == {"id": 3, "name": "dog", "pixels": 20}
    assert (found["ignored_pixels"], found["problems"][0]["code"]) == (25, "unknown-label")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["nowhere", "--out", "out"], 3),
        (["in", "--out", "in"], 2),
        (["in", "--out", "out", "--from", "labelmee"], 2),
        (["in", "--out", ""], 2),
        (["in", "--out", "out", "--images", "nowhere"], 3),
        (["in", "--out", "out", "--line-width", "0"], 2),
        (["in"], 2),
    ],
)
def test_what_makes_no_sense_is_refused(words, code, source, capsys):
    assert main(["convert", *words]) == code
    assert len(capsys.readouterr().err.strip().splitlines()) <= 2


def test_masks_become_annotations_and_masks_again(source, capsys):
    assert main(["convert", "in", "--out", "masks"]) == 0
    assert main(["convert", "masks", "--to", "coco", "--out", "annotations"]) == 0
    assert capsys.readouterr().out.splitlines()[-2:] == ["1 image, 3 classes", "annotations"]
    assert main(["convert", "annotations", "--out", "again"]) == 0
    first, second = (Path(folder, "masks", "photo.png").read_bytes() for folder in ("masks", "again"))
    assert first == second
    assert main(["convert", "masks", "--to", "yolo", "--out", "other"]) == 2
    assert "labelme, coco, cvat" in capsys.readouterr().err
    assert main(["convert", "masks", "--to", "coco", "--out", "other", "--dry-run"]) == 2
    assert main(["convert", "nowhere", "--to", "coco", "--out", "other"]) == 3
    assert not Path("other").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a,b", ["a", "b"]), ("1:a, 7:b", {1: "a", 7: "b"}), ("a:b", ["a:b"]), ("1 : a b", {1: "a b"})],
)
def test_classes_are_names_or_ids_with_names(text, expected):
    assert parse_classes(text) == expected


def test_classes_with_and_without_ids_are_refused():
    with pytest.raises(UsageError, match="every class"):
        parse_classes("1:a,b")
