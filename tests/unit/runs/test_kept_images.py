from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import atrous
from atrous.cli.main import main
from atrous.core.errors import DataError, ModelFileError, UsageError
from atrous.core.run_folder import RunFolder
from atrous.data.datasets.shapes import build_shapes
from atrous.runs.kept_images import rebuild_splits

SIDE = 65
OPTIONS = {
    **{"model": "fcn-tiny", "weights": "none", "iterations": 2, "crop": SIDE, "batch": 2, "validations": 2},
    "lr": 0.3,
}


def write_pair(folder: Path, key: str, image: np.ndarray, mask: np.ndarray) -> None:
    for kind, pixels in (("images", image), ("masks", mask)):
        path = folder / kind / f"{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def write_data(folder: Path, keys: list[str]) -> None:
    data = build_shapes(num_train=len(keys), num_val=1, size=SIDE).train
    for index, key in enumerate(keys):
        write_pair(folder, key, data.get(index).image, data.mask(index).astype(np.uint8))


LAYOUTS = {
    "without splits": [f"photo {number}" for number in range(7)],
    "with splits": [*(f"train/{number}" for number in range(5)), *(f"val/{number}" for number in range(2))],
}


@pytest.fixture(params=LAYOUTS)
def case(request, tmp_path):
    """A folder of data and a run on it."""
    data = tmp_path / "my data"
    write_data(data, LAYOUTS[request.param])
    run = atrous.train(data, out=tmp_path / "run", **OPTIONS)
    return data, run


def add_images(data: Path) -> None:
    """Add pairs to every split, one of them with an id of its own, and files that would sort first."""
    for mask in sorted((data / "masks").rglob("*.png"))[::2]:
        pixels = np.array(Image.open(mask))
        image = np.array(Image.open(data / "images" / mask.relative_to(data / "masks")))
        pixels[:5] = 77
        write_pair(data, str(mask.relative_to(data / "masks").with_name(f"0 added {mask.stem}")), image, pixels)


def leave_unfinished(data: Path) -> None:
    """Add images without masks and masks without images."""
    for kind in ("images", "masks"):
        next((data / kind).rglob("*.png")).with_name(f"alone in {kind}.png").touch()


def list_keys(scores) -> list[str]:
    return sorted(row.key for row in scores.images)


def test_images_added_since_the_training_are_counted_and_left_out(case, capsys):
    data, run = case
    before = rebuild_splits(run.folder)
    add_images(data)
    scores = atrous.evaluate(run)
    assert (scores.miou, list_keys(scores)) == (run.scores.miou, list_keys(run.scores))
    assert [note.code for note in scores.notes if note.code == "images-added"] == ["images-added"]
    assert main(["eval", str(run.folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert f"4 images added to {data} since the training are not used" in [note["message"] for note in told["notes"]]
    after = rebuild_splits(run.folder)
    assert (after.train, after.val) == (before.train, before.val)


def test_a_run_goes_on_with_its_images_after_others_were_added(case, tmp_path):
    data, run = case
    twin = tmp_path / "twin"
    shutil.copytree(run.folder, twin)
    add_images(data)
    leave_unfinished(data)
    resumed = atrous.train(resume=twin)
    assert resumed.scores == run.scores
    assert {note.code for note in resumed.notes} >= {"data-changed"}
    assert (twin / "images.json").read_text() == (run.folder / "images.json").read_text()


def test_a_run_whose_split_had_the_keys_of_version_2_is_scored_and_goes_on(case, tmp_path):
    _, run = case
    text = RunFolder(run.folder).config.read_text()
    old = "  val_fraction: 0.2\n  split_seed: 0\n  train_split: train\n  val_split: val\n"
    changed = re.sub(r"  split:.*\n", old, text.replace("version: 3", "version: 2"))
    assert changed.count("_split: ") == 2
    for folder in (run.folder, tmp_path / "twin"):
        if folder != run.folder:
            shutil.copytree(run.folder, folder)
        RunFolder(folder).config.write_text(changed)
    assert atrous.evaluate(run.folder).miou == run.scores.miou
    assert atrous.train(resume=tmp_path / "twin").scores == run.scores


def test_the_images_of_lists_stay_those_of_the_run_after_the_lists_are_gone(tmp_path):
    data = tmp_path / "data"
    write_data(data, [f"photo {number}" for number in range(7)])
    (data / "train.txt").write_text("".join(f"photo {number}\n" for number in range(4)))
    (data / "val.csv").write_text("image\nphoto 6.png\n")
    run = atrous.train(
        data, out=tmp_path / "run", set={"data.split": {"train": "train.txt", "val": "val.csv"}}, **OPTIONS
    )
    scores = atrous.evaluate(run)
    assert (list_keys(scores), scores.miou) == (["photo 6"], run.scores.miou)
    assert not {"images-added", "data-changed"} & {note.code for note in scores.notes}
    (data / "val.csv").unlink()
    assert list_keys(atrous.evaluate(run)) == ["photo 6"]
    shutil.copytree(run.folder, tmp_path / "twin")
    assert atrous.train(resume=tmp_path / "twin").scores == run.scores


def test_an_unfinished_folder_does_not_hide_the_images_of_the_run(case):
    data, run = case
    leave_unfinished(data)
    scores = atrous.evaluate(run)
    assert scores.miou == run.scores.miou
    assert "data-changed" in {note.code for note in scores.notes}


def test_images_that_are_gone_are_named_where_they_are_needed(case):
    _, run = case
    splits = rebuild_splits(run.folder)
    splits.train.image_path(0).unlink()
    assert atrous.evaluate(run).miou == run.scores.miou  # it was not trained for this
    with pytest.raises(DataError, match="1 file of ") as caught:
        atrous.train(resume=run.folder)
    assert splits.train.pairs[0].image in caught.value.message
    splits.val.mask_path(0).unlink()
    with pytest.raises(DataError, match="not found") as caught:
        atrous.evaluate(run)
    assert f"atrous eval {run.folder} DATA" in caught.value.hint


def test_data_that_have_moved_are_asked_for_and_found_again(case, tmp_path, monkeypatch, capsys):
    data, run = case
    moved, elsewhere = tmp_path / "moved here", tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)  # a run works from any folder
    assert atrous.evaluate(run.folder).miou == run.scores.miou
    data.rename(moved)
    for words, way in (
        (["eval", run.folder], f"atrous eval {run.folder} DATA"),
        (["train", "--resume", run.folder], f"atrous train DATA --resume {run.folder}"),
        (["export", run.folder, "--int8"], "--calibrate"),
    ):
        assert main([str(word) for word in words]) == 3
        told = " ".join(capsys.readouterr().err.split())
        assert f"was trained on {data}, which does not exist any more" in told
        assert way in told
    assert main(["train", str(moved), "--resume", str(run.folder), "--quiet"]) == 0
    assert atrous.evaluate(run.folder).miou == run.scores.miou


def test_a_damaged_list_is_named_and_without_one_the_images_are_chosen_again(case):
    _, run = case
    lists = RunFolder(run.folder).images
    for text in ("", "{", "[]", "{}", '{"train": 1}', '{"layout": "x", "label_space": {}, "train": {}, "val": {}}'):
        lists.write_text(text)
        with pytest.raises(ModelFileError, match=r"images\.json: cannot be read"):
            atrous.evaluate(run)
    lists.unlink()
    scores = atrous.evaluate(run)
    assert scores.miou == run.scores.miou
    assert "images-chosen-again" in {note.code for note in scores.notes}


def test_a_run_on_python_data_goes_on_with_the_same_objects(tmp_path, capsys):
    data = build_shapes(num_train=16, num_val=2, size=SIDE)
    pair = (data.train, data.val)
    run = atrous.train(pair, out=tmp_path / "my run", **OPTIONS)
    resumed = atrous.train(pair, resume=run.folder)
    assert resumed.scores == run.scores
    with pytest.raises(DataError, match="its data have changed"):
        atrous.train((build_shapes(num_train=17, size=SIDE).train, data.val), resume=run.folder)
    with pytest.raises(UsageError, match="trained on Python objects") as caught:
        atrous.train(resume=run.folder)
    assert "atrous.train((train, val), resume=" in caught.value.hint
    with pytest.raises(UsageError, match="trained on Python objects") as caught:
        atrous.evaluate(run)
    assert "atrous.evaluate(" in caught.value.hint
    assert main(["train", "--resume", str(run.folder)]) == 2
    assert "atrous.train((train, val), resume=" in " ".join(capsys.readouterr().err.split())


def test_clips_and_scenes_are_known_again(tmp_path):
    keys = [f"{clip}_{number}" for clip in "abcde" for number in range(2)]
    write_data(tmp_path / "data", keys)
    run = atrous.train(tmp_path / "data", out=tmp_path / "run", set={"data.split.group": "^(.+?)_"}, **OPTIONS)
    val = rebuild_splits(run.folder).val
    assert {val.group(index) for index in range(len(val))} == {val.key(index)[0] for index in range(len(val))}
    assert run.scores.intervals.unit == "group"
    assert run.scores.intervals == atrous.evaluate(run).intervals
