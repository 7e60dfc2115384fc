"""What a model is scored on has the model's classes, by name and by id."""

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
from atrous.config.schema import DataConfig
from atrous.core.errors import DataError
from atrous.core.inputs import PHOTO, ImageForm
from atrous.core.labels import LabelSpace
from atrous.core.run_folder import RunFolder
from atrous.runs.scored_data import _READING, find_scored_data

SPACE = LabelSpace(("cat", "dog", "class 7"), ids=(0, 1, 7))


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two pairs with the ids 0 and 1."""
    for kind, shape in (("images", (33, 33, 3)), ("masks", (33, 33))):
        (tmp_path / "data" / kind).mkdir(parents=True)
        for number in range(2):
            pixels = np.random.default_rng(number).integers(0, 2, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / kind / f"{number}.png")
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("settings", "differing"),
    [
        ("classes: {0: dog, 1: cat}", "id 1 is 'cat' there and 'dog' in the model"),
        ("classes: [dog, cat]", "id 0 is 'dog'"),
        ("classes: {0: cat, 1: horse}", "id 1 is 'horse' there and 'dog' in the model"),
        ("classes: {0: class 1, 1: class 0}", "id 0 is 'class 1'"),  # other names, although made of ids
        ("classes: {0: cat, 1: dog}", ""),
        ("classes: {0: class 0, 1: dog, 7: bird}", ""),
        ("classes: {0: cat, 1: dog, 9: bird}", ""),
        ("ignore: [255, 9]", ""),
    ],
)
def test_a_folder_that_calls_an_id_by_another_name_is_refused(folder, settings, differing):
    (folder / "atrous.yaml").write_text(f"data:\n  {settings}\n")
    if not differing:
        assert len(find_scored_data(folder, None, SPACE, None, None)) == 2
        return
    with pytest.raises(DataError, match=r"its classes \(.*atrous.yaml:2\) are not the model's") as caught:
        find_scored_data(folder, None, SPACE, None, None)
    assert differing in str(caught.value)


def test_the_commands_refuse_it_too(folder, tmp_path, capsys):
    (folder / "atrous.yaml").write_text("data:\n  classes: {0: dog, 1: cat}\n")
    model = atrous.save(atrous.build("fcn-tiny", classes=2), tmp_path / "m.safetensors", classes=["cat", "dog"])
    assert main(["eval", str(model), str(folder)]) == 3
    assert main(["bench", str(model), "--sizes", "33", "--rounds", "1", "--data", str(folder)]) == 3
    assert capsys.readouterr().err.count("are not the model's") == 2


def test_what_a_folder_ignores_is_not_scored(folder):
    (folder / "atrous.yaml").write_text("data:\n  ignore: [1]\n")
    with pytest.raises(atrous.AtrousError, match="dog"):
        find_scored_data(folder, None, SPACE, None, None)
    (folder / "atrous.yaml").write_text("data:\n  ignore: [3]\n")
    dataset = find_scored_data(folder, None, SPACE, None, None)
    assert set(dataset.label_space.ignored_ids) == {3, 255}


def test_a_registered_data_set_has_the_names_of_its_table(tmp_path, folder):
    for split in ("train", "val"):
        shutil.copytree(folder / "images", tmp_path / "camvid" / split)
        shutil.copytree(folder / "masks", tmp_path / "camvid" / f"{split}annot")
    source = f"camvid={tmp_path / 'camvid'}"
    same = LabelSpace(("sky", "building"), ids=(0, 1), ignored_ids=(11,))
    scored = find_scored_data(source, None, same, None, None)
    assert (scored.name, len(scored)) == ("camvid val", 2)
    with pytest.raises(DataError, match=r"its classes \(camvid\) are not the model's: id 0 is 'sky' there and 'cat'"):
        find_scored_data(source, None, LabelSpace(("cat", "dog"), ids=(0, 1)), None, None)
    # A model that was trained on it, with names of its own.
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.config.write_text(f"version: 2\ndata: {{source: '{source}', classes: {{0: himmel, 1: haus}}}}\n")
    renamed = LabelSpace(("himmel", "haus"), ids=(0, 1), ignored_ids=(11,))
    assert len(find_scored_data(source, run, renamed, None, None)) == 2
    (tmp_path / "camvid" / "atrous.yaml").write_text("data:\n  classes: {0: himmel, 1: haus}\n")
    assert len(find_scored_data(source, None, renamed, None, None)) == 2
    shutil.rmtree(tmp_path / "camvid" / "val")
    shutil.rmtree(tmp_path / "camvid" / "valannot")
    assert find_scored_data(source, None, renamed, None, None).name == "camvid train"  # all that is there


def test_a_registered_data_set_that_is_divided_by_lists_is_scored_on_its_own_list(tmp_path, folder):
    for split in ("train", "val"):
        shutil.copytree(folder / "images", tmp_path / "camvid" / split)
        shutil.copytree(folder / "masks", tmp_path / "camvid" / f"{split}annot")
    (tmp_path / "camvid" / "few.txt").write_text(f"train/{next((folder / 'images').iterdir()).stem}\n")
    (tmp_path / "camvid" / "few.yaml").write_text("data: {split: {train: val, val: few.txt}}\n")
    space = LabelSpace(("sky", "building"), ids=(0, 1), ignored_ids=(11,))
    scored = find_scored_data(f"camvid={tmp_path / 'camvid' / 'few.yaml'}", None, space, None, None)
    assert (scored.name, len(scored)) == ("camvid few", 1)


def test_masks_are_read_as_the_run_reads_them_unless_the_data_say_how(folder, tmp_path):
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.array(Image.open(path)) * 255).save(path)
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.config.write_text(f"data: {{source: '{folder}', label_map: {{255: 1}}}}\n")
    space = LabelSpace(("background", "object"), ignored_ids=())
    told: list[str] = []
    dataset = find_scored_data(folder, run, space, None, told.append)
    assert set(np.unique(dataset.get(0).labels)) == {0, 1}
    assert "files are read as those of the run: data.label_map of its settings" in told
    (folder / "atrous.yaml").write_text("data: {label_map: {255: 0}}\n")
    assert set(np.unique(find_scored_data(folder, run, space, None, told.append).get(0).labels)) == {0}
    assert any("the run has other data.label_map" in line for line in told)


def test_a_table_of_colours_beside_the_data_of_the_run_is_found(folder, tmp_path):
    colours = np.array([[9, 9, 9], [255, 0, 0]], np.uint8)
    for path in (folder / "masks").iterdir():
        Image.fromarray(colours[np.array(Image.open(path))]).save(path)
    (tmp_path / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nroad:9,9,9::\ncar:255,0,0::\n")
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.config.write_text(f"data: {{source: '{tmp_path}', colours: labelmap.txt}}\n")
    dataset = find_scored_data(folder, run, LabelSpace(("road", "car")), None, None)
    assert set(np.unique(dataset.get(0).labels)) == {0, 1}


def write_run(folder: Path, **data: object) -> RunFolder:
    run = RunFolder(folder / "run")
    run.path.mkdir(exist_ok=True)
    run.config.write_text(json.dumps({"data": {"source": str(folder / "elsewhere"), **data}}))
    return run


@pytest.mark.parametrize(
    ("settings", "mentioned"),
    [
        ("ignore: [9]", "ids ignored: those of .*atrous.yaml:2, and as the model does 254, 255"),
        ("ignore: [254, 255]", ""),
        ("classes: {0: cat, 1: dog}", ""),
    ],
)
def test_what_the_model_ignores_beside_the_data_is_said(folder, settings, mentioned):
    (folder / "atrous.yaml").write_text(f"data:\n  {settings}\n")
    told: list[str] = []
    space = LabelSpace(("cat", "dog"), ignored_ids=(254, 255))
    find_scored_data(folder, None, space, None, told.append)
    assert bool([line for line in told if re.match(mentioned or "ids ignored", line)]) == bool(mentioned)


def test_a_class_of_the_data_that_the_model_ignores_is_refused(folder):
    (folder / "atrous.yaml").write_text("data:\n  classes: {0: cat, 1: dog, 254: snow}\n")
    with pytest.raises(DataError, match="names 254 'snow', and the model ignores it"):
        find_scored_data(folder, None, LabelSpace(("cat", "dog"), ignored_ids=(254, 255)), None, None)


def test_unlabelled_images_and_pages_are_read_as_the_run_reads_them_unless_the_data_say_how(folder, tmp_path):
    (folder / "masks" / "1.png").unlink()
    pages = [Image.fromarray(np.full((33, 33, 3), value, np.uint8)) for value in (40, 200)]
    (folder / "images" / "0.png").unlink()
    pages[0].save(folder / "images" / "0.tif", save_all=True, append_images=pages[1:])
    (folder / "images" / "1.png").unlink()
    pages[0].save(folder / "images" / "1.tif", save_all=True, append_images=pages[1:])
    run, space, told = write_run(tmp_path, unlabelled="background", page=2), LabelSpace(("cat", "dog")), []
    dataset = find_scored_data(folder, run, space, None, told.append)
    assert "files are read as those of the run: data.unlabelled and data.page of its settings" in told
    assert len(dataset) == 2
    assert dataset.get(0).image[0, 0, 0] == 200
    (folder / "atrous.yaml").write_text("data: {unlabelled: ignore, page: 1}\n")
    dataset = find_scored_data(folder, run, space, None, told.append)
    assert len(dataset) == 1
    assert dataset.get(0).image[0, 0, 0] == 40
    assert "the run has other data.unlabelled and data.page" in " ".join(told)


@pytest.mark.parametrize(
    ("settings", "form", "refused"),
    [
        ("channels: [3, 2, 1]", PHOTO, "data.channels"),
        ("channels: [3, 2, 1]", ImageForm((2, 1, 0)), ""),
        ("channels: [1, 2, 3]", ImageForm((2, 1, 0)), "data.channels"),
        ("channels: rgb", PHOTO, ""),
        ("value_range: [0, 100]", PHOTO, "data.value_range"),
        ("value_range: [0, 100]", ImageForm((0, 1, 2), value_range=(0, 100)), ""),
        ("value_range: [0, 50]", ImageForm((0, 1, 2), value_range=(0, 100)), "data.value_range"),
        ("ignore: [9]", ImageForm((2, 1, 0)), ""),
    ],
)
def test_bands_and_a_range_that_are_not_the_models_are_refused(folder, settings, form, refused):
    (folder / "atrous.yaml").write_text(f"data:\n  {settings}\n")
    if not refused:
        assert len(find_scored_data(folder, None, SPACE, None, None, form)) == 2
        return
    with pytest.raises(DataError, match=rf"{refused} \(.*atrous.yaml:2\) means .*, and the model takes"):
        find_scored_data(folder, None, SPACE, None, None, form)


def test_every_setting_of_how_files_are_read_is_compared():
    """A new setting of data has to be taken over, compared, or to be of the place and the choice of files alone."""
    compared = {key for keys in _READING for key in keys} | {"classes", "ignore", "channels", "value_range"}
    of_files = {"source", "root", "images", "masks", "pairs", "split", "exclude", "options"}
    assert compared | of_files == {*DataConfig.model_fields}
