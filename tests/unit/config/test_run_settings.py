from __future__ import annotations

import pytest

from atrous.config.load import load_config
from atrous.config.run_settings import list_differences, list_settings, make_absolute, save_run_config
from atrous.config.schema import DataConfig


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """The working directory with a data folder, a data set below a root, and a file of weights."""
    for name in ("photos", "sets/camvid"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "start.pth").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("source", "root", "absolute"),
    [
        ("photos", None, "{}/photos"),
        ("./photos", None, "{}/photos"),
        ("camvid=sets/camvid", None, "camvid={}/sets/camvid"),
        ("camvid", "sets", "camvid={}/sets/camvid"),
        ("shapes", None, "shapes"),
    ],
)
def test_data_are_named_by_absolute_paths(photos, source, root, absolute):
    config = make_absolute(load_config(options={"data.source": source, "data.root": root}).config)
    assert config.data.source == absolute.format(photos)
    assert make_absolute(config) == config


@pytest.mark.parametrize("source", ["", "python"])
def test_data_that_no_text_names_are_not_taken_for_the_folder_of_that_name(photos, source):
    (photos / "python").mkdir()
    (photos / "python/atrous.yaml").write_text("data: {classes: [a, b]}")
    loaded = load_config(options={"data.source": source, "weights": "start.pth"}).config
    config = make_absolute(loaded)
    assert config.data == loaded.data == DataConfig(source=source)
    assert config.model.weights == str(photos / "start.pth")


def test_the_folder_in_the_environment_is_written_out(photos, monkeypatch):
    monkeypatch.setenv("ATROUS_DATA", "sets")
    assert make_absolute(load_config(options={"data.source": "camvid"}).config).data.source == (
        f"camvid={photos / 'sets/camvid'}"
    )


def test_weights_and_data_of_stages_are_absolute_too(photos):
    stages = [{"training.lr": 0.1}, {"data.source": "photos"}]
    options = {"data.source": "shapes", "weights": "start.pth", "stages": stages}
    config = make_absolute(load_config(options=options).config)
    assert config.model.weights == str(photos / "start.pth")
    assert config.stages[0] == stages[0]
    assert config.stages[1]["data.source"] == str(photos / "photos")
    for weights in ("imagenet", "none"):
        (photos / weights).touch()
        assert make_absolute(load_config(options={"weights": weights}).config).model.weights == weights


def test_a_written_configuration_is_the_same_anywhere_and_whatever_lies_beside_the_data(photos, monkeypatch):
    options = {"data.source": "photos", "iterations": 3, "output.folder": "runs/x", "logger": ["wandb"]}
    config = make_absolute(load_config(options=options).config)
    save_run_config(photos / "runs/x/config.yaml", config)
    (photos / "photos/atrous.yaml").write_text("data:\n  classes: [a, b]\n  ignore: [7]\n  root: elsewhere\n")
    elsewhere = photos / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    again = load_config(recipe=photos / "runs/x/config.yaml").config
    assert again.output.folder is None  # else the recipe would be refused: there is a run in that folder
    assert again == config.model_copy(update={"output": again.output})
    assert again.output.logger == ("wandb",)
    (photos / "photos/atrous.yaml").write_text("data: [")
    assert load_config(recipe=photos / "runs/x/config.yaml").config == again


def test_what_a_resumed_run_has_to_keep_leaves_out_places_and_devices():
    config = load_config(options={"data.source": "shapes", "batch": 4}).config
    began = list_settings(config)
    assert list_differences(config, began) == []
    elsewhere = {"data.source": "photos", "data.root": "sets", "device": "cpu", "workers": 3, "out": "runs/y"}
    assert list_differences(load_config(options={"batch": 4, **elsewhere}).config, began) == []
    changed = load_config(options={"batch": 5, "flip": False, "evaluation.flip": True, "stages": [{}]}).config
    assert list_differences(changed, began) == ["training.batch", "training.flip", "evaluation.flip", "stages"]
    staged, moved = (
        load_config(options={"stages": [{"training.lr": 0.1, "data.source": source}]}).config for source in ("a", "b")
    )
    assert list_differences(moved, list_settings(staged)) == []
