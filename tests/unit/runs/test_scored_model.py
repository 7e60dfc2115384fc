"""A run scored on its own data: the images that it was chosen on, and the test split of the data."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import atrous
from atrous.cli.main import main
from atrous.core.calibration import Chosen
from atrous.core.records import Scores
from atrous.data.datasets.shapes import build_shapes
from atrous.networks.model_file import load_model, save_model

SIDE = 65
COUNTS = {"train": 4, "val": 10, "test": 11}
OPTIONS = ("--model", "fcn-tiny", "--weights", "none", "--iterations", "2", "--crop", "33", "--batch", "2", "--quiet")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three splits, all images different. Not to be changed."""
    folder = tmp_path_factory.mktemp("scored") / "photos"
    drawn = build_shapes(num_train=sum(COUNTS.values()), num_val=1, size=SIDE).train
    names = [f"{split}/{number:02}" for split, count in COUNTS.items() for number in range(count)]
    for index, name in enumerate(names):
        for kind, pixels in (("images", drawn.get(index).image), ("masks", drawn.mask(index).astype(np.uint8))):
            path = folder / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on it. Not to be changed."""
    folder = tmp_path_factory.mktemp("runs") / "photos"
    assert main(["train", str(data), *OPTIONS, "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def own(data: Path, run: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Copies of both, to be changed."""
    shutil.copytree(data, tmp_path / "photos")
    shutil.copytree(run, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace(str(data), str(tmp_path / "photos")))
    return tmp_path / "photos", tmp_path / "run"


def read_codes(scores: dict[str, object]) -> list[str]:
    return [note["code"] for note in scores["notes"]]  # type: ignore[attr-defined,index]


def test_a_run_is_scored_on_val_and_below_on_test(data, run, tmp_path, capsys):
    assert main(["eval", str(run), "--json", "--quiet", "--out", str(tmp_path / "out")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["data"], len(printed["images"])) == ("photos val", 10)
    test = printed["test"]
    assert (test["data"], len(test["images"]), test["test"]) == ("photos test", 11, None)
    assert test["intervals"]["count"] == 11
    assert test["intervals"]["miou"] is not None
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["test"] == test
    assert json.loads(json.dumps(Scores.from_json(printed).to_json())) | {"model": str(run)} == printed
    assert "chosen-here" in read_codes(printed)
    assert "chosen-here" in read_codes(json.loads((run / "metrics.json").read_text()))
    assert "chosen-here" not in read_codes(test)
    # The same images, found and scored by another way: as a folder of their own.
    for kind in ("images", "masks"):
        shutil.copytree(data / kind / "test", tmp_path / "alone" / kind)
    alone = atrous.evaluate(run, tmp_path / "alone", progress=False)
    assert alone.test is None
    assert alone.confusion == tuple(map(tuple, test["confusion"]))
    assert alone.intervals is not None
    assert list(alone.intervals.miou or ()) == test["intervals"]["miou"]
    assert main(["eval", str(run), "--quiet"]) == 0
    shown = capsys.readouterr().out
    assert 0 < shown.index("on photos val") < shown.index("were chosen on these images") < shown.index("on photos test")
    assert shown.count("were chosen on these images") == 1


def test_the_html_of_scores_shows_test_too(run):
    scores = atrous.evaluate(run, progress=False)
    assert "photos val, 10 images" in scores._repr_html_()
    assert "photos test, 11 images" in scores._repr_html_()


def test_data_that_are_named_are_scored_alone(data, run, capsys):
    assert main(["eval", str(run), str(data), "--json", "--quiet"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (len(printed["images"]), printed["test"]) == (14, None)
    assert "chosen-here" not in read_codes(printed)
    assert "the weights of the model were chosen on 10 of 14 images" in [note["message"] for note in printed["notes"]]


def test_a_model_file_scored_where_it_was_chosen_says_so(tmp_path, capsys):
    for split in ("train", "val"):
        for folder, file in ((split, "a.jpg"), (f"{split}annot", "a.png")):
            (tmp_path / "camvid" / folder).mkdir(parents=True)
            Image.new("RGB" if file == "a.jpg" else "L", (SIDE, SIDE)).save(tmp_path / "camvid" / folder / file)
    model = atrous.save(atrous.build("fcn-tiny", classes=2), tmp_path / "m.safetensors", classes=["sky", "building"])
    network, card = load_model(model)
    for name in ("camvid val", "other val"):
        save_model(model, network, replace(card, chosen=Chosen(1.2, name)))
        assert main(["eval", str(model), f"camvid={tmp_path / 'camvid'}", "--json", "--quiet"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["data"] == "camvid val"
        assert ("chosen-here" in read_codes(printed)) == (name == "camvid val")


def test_one_split_is_scored_by_naming_its_files(own, capsys):
    data, run = own
    (data / "test.yaml").write_text("data: {images: images/test, masks: masks/test}\n")
    assert main(["eval", str(run), str(data / "test.yaml"), "--json", "--quiet"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert main(["eval", str(run), "--json", "--quiet"]) == 0
    test = json.loads(capsys.readouterr().out)["test"]
    assert (alone["confusion"], alone["data"]) == (test["confusion"], "photos, every pair")


def remove_masks(data: Path) -> None:
    shutil.rmtree(data / "masks" / "test")


def empty_masks(data: Path) -> None:
    for path in (data / "masks" / "test").iterdir():
        path.unlink()


def void_masks(data: Path) -> None:
    for path in (data / "masks" / "test").iterdir():
        Image.new("L", (SIDE, SIDE), 255).save(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (remove_masks, "the test split is not scored: test has no masks"),
        (empty_masks, "the test split is not scored: photos test has no masks"),
        (void_masks, "the test split is not scored: photos test has no labelled pixel"),
    ],
)
def test_a_test_split_without_labels_is_said_in_one_line(own, capsys, change, said):
    data, run = own
    change(data)
    assert main(["eval", str(run), "--json"]) == 0
    out, err = capsys.readouterr()
    printed = json.loads(out)
    assert (printed["test"], len(printed["images"])) == (None, 10)
    assert [note["message"] for note in printed["notes"] if note["code"] == "test-not-scored"] == [said]
    assert said in " ".join(err.split())


def test_data_without_a_test_split_say_nothing(own, capsys):
    data, run = own
    for kind in ("images", "masks"):
        shutil.rmtree(data / kind / "test")
    (data / "test_notes").mkdir()
    assert main(["eval", str(run), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["test"] is None
    assert "test" not in err.replace(str(run), "")


def test_images_without_a_mask_are_counted_and_seen_ones_are_warned_of(own):
    data, run = own
    (data / "masks" / "test" / "03.png").unlink()
    shutil.copy(data / "images" / "train" / "00.png", data / "images" / "test" / "04.png")
    shutil.copy(data / "masks" / "train" / "00.png", data / "masks" / "test" / "04.png")
    test = atrous.evaluate(run, progress=False).test
    assert test is not None
    assert len(test.images) == 10
    assert "photos test: 1 image without a mask not scored" in test.notes
    assert "warning: the model was trained on 1 of 10 images" in test.notes


def test_scores_on_val_are_shown_when_test_cannot_be_read(own, capsys):
    data, run = own
    (data / "images" / "test" / "00.png").write_bytes(b"")
    assert main(["eval", str(run), "--quiet"]) == 3
    out, err = capsys.readouterr()
    assert "on photos val" in out
    assert "mIoU" in out
    assert "on photos test" not in out
    assert "00.png" in err


def test_a_run_that_was_validated_on_test_has_no_other(data, tmp_path):
    split = {"data.split.train": "train", "data.split.val": "test"}
    run = atrous.train(data, model="fcn-tiny", weights="none", iterations=2, crop=33, batch=2, out=tmp_path, set=split)
    scores = atrous.evaluate(run, progress=False)
    assert (scores.data, scores.test) == ("photos test", None)
