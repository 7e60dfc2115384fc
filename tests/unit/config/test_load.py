from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from atrous.config.load import dump_config, list_recipes, load_config
from atrous.config.schema import Config, DataConfig
from atrous.core.data_source import resolve_source
from atrous.core.errors import ConfigError
from atrous.core.split_options import SplitOptions


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_nothing_given_is_the_defaults_for_fifty_epochs():
    loaded = load_config()
    assert loaded.config.training.epochs == 50
    assert loaded.config.model == Config().model
    assert set(loaded.sources.values()) == {"default"}


def test_a_later_source_wins_and_every_value_knows_its_source(tmp_path):
    data = tmp_path / "photos"
    data.mkdir()
    write(data / "atrous.yaml", "data:\n  ignore: [0]\n  split: {val: 0.3,\n    seed: 5}\n")
    recipe = write(tmp_path / "r.yaml", "data:\n  split: {val: 0.4}\ntraining:\n  lr: 1e-3\n  batch: 2\n  crop: 65\n")
    loaded = load_config(
        recipe=recipe,
        options={"data.source": data, "lr": 0.5, "training.seed": None},
        assignments=["training.batch=4", "model.head.rates=[1, 2]"],
    )
    config, sources = loaded.config, loaded.sources
    assert (config.data.ignore, config.data.split) == ((0,), SplitOptions(val=0.4, seed=5))
    assert (config.training.lr, config.training.batch, config.training.crop) == (0.5, 4, 65)
    assert config.model.head == {"rates": [1, 2]}
    assert sources["data.split.seed"] == f"{data / 'atrous.yaml'}:4"
    assert sources["data.split.val"] == f"recipe {recipe}:2"
    assert sources["training.crop"] == f"recipe {recipe}:6"
    assert sources["training.lr"] == "`lr`"
    assert sources["training.batch"] == "`set` training.batch=4"
    assert sources["model.head.rates"] == "`set` model.head.rates=[1, 2]"
    assert sources["training.seed"] == "default"
    assert sources["data.source"] == "DATA"


def test_yaml_is_version_1_2(tmp_path):
    recipe = write(tmp_path / "r.yaml", "training:\n  lr: 1e-3\ndata:\n  classes: [yes, no, off]\n  source: 'on'\n")
    config = load_config(recipe=recipe).config
    assert config.training.lr == 0.001
    assert config.data.classes == ("yes", "no", "off")
    with pytest.raises(ConfigError, match=r"training.flip is 'no'\nAllowed: true or false"):
        load_config(assignments=["training.flip=no"])


def test_a_doubled_key_is_refused_with_its_line(tmp_path):
    recipe = write(tmp_path / "r.yaml", "training:\n  lr: 0.1\n  lr: 0.2\n")
    with pytest.raises(ConfigError) as caught:
        load_config(recipe=recipe)
    assert caught.value.message == f'{recipe}:3: found duplicate key "lr"'
    assert caught.value.hint == "Write each key once."


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("training:\n  lrr: 1\n", "2: training.lrr is unknown", "Did you mean training.lr? Keys of training: epochs,"),
        ("lr: 1\n", "1: lr is unknown", "Did you mean training.lr? Keys of the configuration: data,"),
        ("modle: {}\n", "1: modle is unknown", "Did you mean model?"),
        ("training:\n  lr: fast\n", "2: training.lr is 'fast'", "Allowed: a number or 'auto'."),
        ("training:\n  lr: .inf\n", "2: training.lr is inf", "Allowed: a finite number or 'auto'."),
        ("training:\n  crop: 3.5\n", "2: training.crop is 3.5", "Allowed: a whole number."),
        ("training:\n  batch: true\n", "2: training.batch is True", "Allowed: a whole number or 'auto'."),
        ("training:\n  lr: '0.1'\n", "2: training.lr is '0.1'", "Allowed: a number or 'auto'."),
        ("training: 3\n", "1: training is 3", "Allowed: a mapping: write `training:`"),
        ("model:\n  resize: up\n", "2: model.resize is 'up'", "Allowed: 'aligned' or 'half_pixel'"),
        ("training:\n  class_weights: x\n", "2: training.class_weights is 'x'", "Allowed: 'none' or 'auto' or a list."),
    ],
)
def test_one_problem_reads_as_place_value_and_remedy(tmp_path, text, message, hint):
    recipe = write(tmp_path / "r.yaml", text)
    with pytest.raises(ConfigError) as caught:
        load_config(recipe=recipe)
    assert caught.value.message == f"recipe {recipe}:{message}"
    assert caught.value.hint.startswith(hint)


def test_all_problems_come_at_once(tmp_path):
    recipe = write(tmp_path / "r.yaml", "training:\n  lr: fast\n  lrr: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_config(recipe=recipe, options={"crop": "big"}, assignments=["seed", "model.output_stride=low"])
    lines = caught.value.message.splitlines()
    assert lines[0] == "5 problems in the configuration:"
    starts = ("`set` got 'seed'", "`crop`: training.crop", "`set` model.output_stride=low: model.output_stride")
    for start in (*starts, f"recipe {recipe}:2: training.lr is", f"recipe {recipe}:3: training.lrr is"):
        assert sum(line.startswith(f"  {start}") for line in lines) == 1


def test_an_unknown_option_gets_the_nearest_name():
    with pytest.raises(ConfigError, match=r"lrr is unknown\nDid you mean training.lr\?"):
        load_config(options={"lrr": 0.1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: [\n", ":2: expected the node content"),
        ("- a\n", ":1: not a mapping but list"),
        ("a: !x 3\n", ":1: "),
    ],
)
def test_a_file_that_is_no_recipe_is_named_with_its_line(tmp_path, text, message):
    recipe = write(tmp_path / "r.yaml", text)
    with pytest.raises(ConfigError) as caught:
        load_config(recipe=recipe)
    assert caught.value.message.startswith(f"{recipe}{message}")


def test_an_unknown_recipe_gets_the_nearest_and_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"no recipe 'dmo'\nDid you mean 'demo'\?"):
        load_config(recipe="dmo")
    with pytest.raises(ConfigError, match=r"cannot read nowhere.yaml: No such file"):
        load_config(recipe="nowhere.yaml")


def test_a_later_length_replaces_an_earlier_one_but_two_in_one_source_do_not_go_together(tmp_path):
    recipe = write(tmp_path / "r.yaml", "training:\n  max_minutes: 5\n")
    training = load_config(recipe=recipe, options={"iterations": 7}).config.training
    assert (training.max_minutes, training.iterations, training.epochs) == (None, 7, None)
    with pytest.raises(ConfigError, match=r"training.epochs = 1 and training.iterations = 7\nGive exactly one"):
        load_config(options={"epochs": 1.0, "iterations": 7})


def test_the_written_configuration_starts_the_same_run_again(tmp_path):
    first = load_config(
        recipe="demo",
        options={"class_weights": [1.0, 2.5], "data.classes": {0: "a", 7: "no"}, "multi_grid": (1, 2, 4)},
        assignments=["model.head={rates: [6], separable: true}", "model.name=fcn-resnet34", "training.lr=1e-5"],
    ).config
    text = dump_config(first)
    assert load_config(recipe=write(tmp_path / "config.yaml", text)).config == first
    assert "multi_grid: [1, 2, 4]" in text


def test_a_setting_wins_over_an_option_and_is_named_by_its_key_alone():
    assert load_config(options={"crop": 65}, settings={"training.crop": 33}).config.training.crop == 33
    with pytest.raises(ConfigError, match=r"^training\.auxiliary_weight has no effect"):
        load_config(settings={"training.auxiliary_weight": 0.1})


def test_only_the_data_section_of_a_data_file_counts(tmp_path):
    write(tmp_path / "atrous.yaml", "data:\n  classes: [a, b]\ntraining:\n  lr: 1.0\n")
    with pytest.raises(ConfigError, match=r"atrous.yaml:4: training.lr does not belong in atrous.yaml"):
        load_config(options={"data.source": tmp_path})


def test_the_data_file_may_itself_be_the_data(tmp_path):
    path = write(tmp_path / "atrous.yaml", "data:\n  classes: [a, b]\n")
    assert load_config(options={"data.source": str(path)}).config.data.source == str(tmp_path)
    (tmp_path / "photos").mkdir()
    write(path, "data:\n  source: photos\n  root: sets\n")
    data = load_config(options={"data.source": str(path)}).config.data
    assert (data.source, data.root) == (str(tmp_path / "photos"), str(tmp_path / "sets"))
    write(path, "data:\n  source: voc=photos\n")
    assert load_config(options={"data.source": str(path)}).config.data.source == f"voc={tmp_path / 'photos'}"
    write(path, "data:\n  source: ~/sets/voc\n")
    assert load_config(options={"data.source": str(path)}).config.data.source == str(Path.home() / "sets" / "voc")
    write(path, "data:\n  source: camvid\n")
    assert load_config(options={"data.source": str(path)}).config.data.source == "camvid"


def make_data(folder: Path) -> Path:
    """Lay out data whose settings name the classes."""
    folder.mkdir(parents=True)
    write(folder / "atrous.yaml", "data:\n  classes: {0: background, 7: crack}\n  ignore: [9]\n")
    return folder


def test_the_settings_are_found_wherever_the_data_are(tmp_path, monkeypatch):
    """Each way to name data finds the `atrous.yaml` beside them; a source is resolved in one place."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    make_data(tmp_path / "home" / "images")
    make_data(tmp_path / "lr=0.1" / "images")
    make_data(tmp_path / "sets" / "camvid")
    make_data(tmp_path / "env" / "voc")
    monkeypatch.setenv("ATROUS_DATA", "env")
    ways = [
        {"data.source": "~/images"},
        {"data.source": "~/images/atrous.yaml"},
        {"data.source": "lr=0.1/images"},
        {"data.source": str(tmp_path / "lr=0.1" / "images")},
        {"data.source": "folder=lr=0.1/images"},
        {"data.source": "camvid", "data.root": "sets"},
        {"data.source": "camvid=sets/camvid"},
        {"data.source": "camvid=sets/camvid/atrous.yaml"},
        {"data.source": "voc"},
    ]
    for options in ways:
        data = load_config(options=options).config.data
        assert data.classes == {0: "background", 7: "crack"}, options
        assert data.ignore == (9,), options
        source = resolve_source(data.source, data.root)
        assert source.root is not None
        assert source.root.is_dir(), options
    assert load_config(options={"data.source": "camvid"}).config.data.classes is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1: is empty"),
        ("# data:\n", "1: is empty"),
        ("version: 1\ndata:\n", "1: sets nothing of the data"),
        ("[1, 2]\n", "1: not a mapping but list"),
        ("images\n", "1: not a mapping but str"),
        ("data: images\n", "1: data is 'images'"),
        ("\ndata: [images]\n", "2: data is ['images']"),
        ("data: 3\n", "1: data is 3"),
        ("data: 2026-13-45\n", "month must be in 1..12"),
        ("data:\n  classes: 5\n", "2: data.classes is 5"),
        ("data:\n  classes: background\n", "2: data.classes is 'background'"),
        ("data:\n  classes: [1, 2]\n", "2: data.classes is [1, 2]"),
        ("data:\n  classes: {a: b}\n", "2: data.classes is {'a': 'b'}"),
        ("data:\n  classes: {0: {name: a}}\n", "2: data.classes holds 0: {'name': 'a'}"),
        ("data:\n  classes: []\n", "2: data.classes is []"),
        ("data:\n  classes: {-1: a}\n", "2: data.classes is {'-1': 'a'}"),
        ("data:\n  classes: {70000: a}\n", "2: data.classes is {'70000': 'a'}"),
        ("data:\n  classes: [a, a]\n", "2: data.classes names 'a' twice"),
        ("data:\n  ignore: x\n", "2: data.ignore is 'x'"),
        ("data:\n  ignore: 255\n", "2: data.ignore is 255"),
        ("data:\n  colours: {[1, 2]: 4}\n", "2: data.colours is"),
        ("data:\n  colours: {[0, 0, 256]: 4}\n", "2: data.colours is"),
        ("data:\n  label_map: {a: 1}\n", "2: data.label_map is"),
        ("data:\n  exclude: [.]\n", "2: data.exclude is"),
        ("data:\n  unlabelled: skip\n", "2: data.unlabelled is"),
        ("data:\n  images: photos\n", "2: data.images is given without data.masks"),
        ("data:\n  ignore: [-3000000000]\n", "2: data.ignore is"),
        ("data:\n  ignore: {255: void}\n", "2: data.ignore is"),
        ("data:\n  split: {val: 1.5}\n", "2: data.split.val is 1.5"),
        ("data:\n  split: {val: [0.2]}\n", "2: data.split.val is [0.2]"),
        ("data:\n  split:\n    seed: 1.5\n", "3: data.split.seed is 1.5"),
        ("data:\n  split: {train: 3}\n", "2: data.split.train is 3"),
        ("data:\n  split: {group: '^a'}\n", "2: data.split.group is '^a', which has no group"),
        ("data:\n  split: {group: '(a'}\n", "2: data.split.group is '(a', which is no regular expression"),
        ("data:\n  split: {vall: val}\n", "2: data.split.vall is unknown"),
        ("data:\n  split: 0.2\n", "2: data.split is 0.2"),
        ("data:\n  val_fraction: 0.2\n", "2: data.val_fraction is unknown"),
        ("data:\n  val_split: test\n", "2: data.val_split is unknown"),
        ("data:\n  options: []\n", "2: data.options is []"),
        ("data:\n  source: 5\n", "2: data.source is 5"),
        ("data:\n  root: [a]\n", "2: data.root is ['a']"),
        ("data:\n  clases: [a]\n", "2: data.clases is unknown"),
        ("data:\n  ? [a, b]\n  : c\n", "data."),
        ("data:\nclasses: [a]\n", "2: classes does not belong in atrous.yaml"),
        ("version: '1'\ndata: {ignore: []}\n", "1: version is '1'"),
        ("version: true\ndata: {ignore: []}\n", "1: version is True"),
        ("version: 2\ndata: {ignore: []}\n", "1: version is 2"),
        ("data: {ignore: []}\n---\ndata: {}\n", "2: but found another document"),
        ("data:\n\tignore: []\n", "2: found character"),
        ("data: !!python/object:os.system {}\n", "1: could not determine a constructor"),
    ],
)
def test_settings_of_data_of_a_wrong_kind_are_refused_with_their_line(tmp_path, text, message):
    path = write(tmp_path / "atrous.yaml", text)
    with pytest.raises(ConfigError) as caught:
        load_config(options={"data.source": str(tmp_path)})
    assert caught.value.message.startswith(f"{path}:")
    assert message in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("name", ["atrous.yml", "Atrous.yaml", "atrous.yaml.txt", "a folder", "a broken link"])
def test_settings_of_data_that_would_not_be_read_are_refused(tmp_path, name):
    path = tmp_path / (name if name.lower().startswith("atrous") else "atrous.yaml")
    if name == "a folder":
        path.mkdir()
    elif name == "a broken link":
        path.symlink_to("gone")
    else:
        write(path, "data: {classes: [a, b]}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(options={"data.source": str(tmp_path)})
    assert caught.value.message.startswith(f"{path} is not read")


def test_settings_with_a_byte_order_mark_are_read(tmp_path):
    (tmp_path / "atrous.yaml").write_bytes(b"\xef\xbb\xbfdata: {classes: [a, b]}\r\n")
    assert load_config(options={"data.source": str(tmp_path)}).config.data.classes == ("a", "b")


def test_one_name_for_both_splits_is_refused():
    with pytest.raises(ConfigError, match=r"data\.split\.val is 'default', as data.split.train is: the score would be"):
        load_config(assignments=["data.split.train=default", "data.split.val=default"])


@pytest.mark.parametrize("name", list_recipes())
def test_every_shipped_recipe_loads_and_names_its_data(name):
    assert load_config(recipe=name).config.data.source


SECTIONS = ("data", "model", "training", "evaluation", "output")


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("value", ["fast", "[1, 2]", "3", "true"])
def test_a_section_that_is_no_mapping_is_one_problem_with_file_and_line(tmp_path, section, value):
    text = f"{section}: {value}\n"
    recipe = write(tmp_path / "r.yaml", text)
    later = {"epochs": 2.0, "lr": 0.1, "model.head": {}, "data.ignore": [0], "flip": True, "device": "cpu"}
    with pytest.raises(ConfigError) as caught:
        load_config(recipe=recipe, options=later)
    assert caught.value.message.startswith(f"recipe {recipe}:1: {section} is ")
    write(tmp_path / "atrous.yaml", text)
    with pytest.raises(ConfigError) as caught:
        load_config(options={"data.source": str(tmp_path), "epochs": 2.0})
    assert caught.value.message.startswith(f"{tmp_path / 'atrous.yaml'}:1: {section} ")
    with pytest.raises(ConfigError) as caught:
        load_config(assignments=[f"{section}={value}", f"{section}.x=1"])
    assert f"`set` {section}={value}: {section} is " in caught.value.message


def test_an_empty_section_is_no_problem(tmp_path):
    text = "".join(f"{section}:\n" for section in SECTIONS)
    assert load_config(recipe=write(tmp_path / "r.yaml", text)).config == load_config().config


def test_a_section_given_as_a_whole_sets_its_keys():
    config = load_config(recipe="demo", assignments=["training={lr: 0.5}"]).config
    assert (config.training.lr, config.training.iterations) == (0.5, 230)


def test_a_value_where_a_mapping_is_needed_is_not_replaced_silently(tmp_path):
    recipe = write(tmp_path / "r.yaml", "model:\n  head: wide\n")
    with pytest.raises(ConfigError, match=r"r.yaml:2: model.head is 'wide'\nmodel.head.rates needs a mapping there"):
        load_config(recipe=recipe, assignments=["model.head.rates=[1]"])


@pytest.mark.parametrize(
    "settings", ["training.lr.x: 1", "training: fast", "model.head: x, model.head.rates: [1]", "1: 2"]
)
def test_a_stage_of_the_wrong_kind_is_a_problem(tmp_path, settings):
    with pytest.raises(ConfigError, match=r"stages\.0\."):
        load_config(recipe=write(tmp_path / "r.yaml", f"stages:\n- {{{settings}}}\n"))


@pytest.mark.parametrize("text", ["data: {classes: {[1, 2]: a}}", "training: {<<: &x {lr: 1.0, lrr: 2}}", "0x10: 3"])
def test_odd_keys_are_problems_and_no_crash(tmp_path, text):
    with pytest.raises(ConfigError):
        load_config(recipe=write(tmp_path / "r.yaml", text))


def test_an_older_format_is_refused_with_the_way_on(tmp_path):
    recipe = write(tmp_path / "config.yaml", "version: 1\nmodel:\n  image_pooling: picture\n")
    with pytest.raises(ConfigError) as caught:
        load_config(recipe=recipe)
    assert (
        str(caught.value)
        == f"{recipe} has format 1 of an earlier atrous, which this one does not read\nStart a new run."
    )
    weights = tmp_path / "model.safetensors"
    weights.touch()
    with pytest.raises(ConfigError, match=f"`weights={weights}`"):
        load_config(recipe=recipe)
    assert load_config(recipe=write(tmp_path / "r.yaml", "version: 3\n")).config.version == 3


def test_the_version_of_a_data_file_is_its_own(tmp_path):
    write(tmp_path / "atrous.yaml", "version: 1\ndata:\n  ignore: [0]\n")
    assert load_config(options={"data.source": str(tmp_path)}).config.data.ignore == (0,)
    write(tmp_path / "atrous.yaml", "version: 2\n")
    with pytest.raises(ConfigError, match=r"atrous.yaml:1: version is 2\nThis atrous reads version 1"):
        load_config(options={"data.source": str(tmp_path)})


def test_a_recipe_without_a_length_gets_the_default_one(tmp_path):
    recipe = write(tmp_path / "r.yaml", "training:\n  epochs: null\n  iterations: null\n")
    assert load_config(recipe=recipe).config.training.epochs == 50


@pytest.mark.parametrize("key", ["data.source", "output.folder", "data.root", "model.weights"])
def test_a_path_that_is_no_text_is_refused_as_such(key):
    with pytest.raises(ConfigError, match="a path or a text holds bytes that are not UTF-8") as caught:
        load_config(options={key: os.fsdecode(b"photos \xff")})
    assert caught.value.hint == "Rename the folder or the file."


@pytest.mark.parametrize(
    ("options", "assignments", "key", "first", "second"),
    [
        ({"batch": 4}, ["training.batch=2"], "training.batch", "`batch`", "`set` training.batch=2"),
        ({"lr": 1.0, "training.lr": 2.0}, [], "training.lr", "`lr`", "`lr`"),
        ({"model": "a-b", "model.name": "a-c"}, [], "model.name", "`model`", "`model`"),
        ({"data": "d"}, ["data.source=e"], "data.source", "DATA", "`set` data.source=e"),
        ({"head": {"rates": [1]}}, ["model.head.rates=[2]"], "model.head.rates", "`head`", "`set` model.head.rates"),
        (
            {},
            ["model.head.rates=[2]", "model.head={channels: 8}"],
            "model.head",
            "`set` model.head.r",
            "`set` model.head=",
        ),
    ],
)
def test_a_setting_given_twice_is_refused_with_both_places(options, assignments, key, first, second):
    with pytest.raises(ConfigError) as caught:
        load_config(options=options, assignments=assignments)
    assert caught.value.message.startswith(f"{key} is given twice, by {first}")
    assert f" and by {second}" in caught.value.message
    assert caught.value.hint == "Leave out one of them."


def test_of_one_key_assigned_twice_the_last_value_holds():
    loaded = load_config(assignments=["training.batch=2", "training.lr=0.5", "training.batch=4"])
    assert (loaded.config.training.batch, loaded.config.training.lr) == (4, 0.5)


def test_two_lengths_in_an_option_and_an_assignment_are_refused():
    with pytest.raises(
        ConfigError, match=r"training.iterations plans the length, as training.epochs does, by `epochs`"
    ):
        load_config(options={"epochs": 2.0}, assignments=["training.iterations=3"])


def test_a_setting_given_twice_with_one_value_is_accepted_and_parts_of_a_mapping_add_up():
    assignments = ["training.batch=4", "training.batch=4", "model.head={channels: 8}", "model.head.rates=[2]"]
    config = load_config(options={"batch": 4}, assignments=assignments).config
    assert (config.training.batch, config.model.head) == (4, {"channels": 8, "rates": [2]})


@pytest.mark.parametrize(
    ("options", "assignment"),
    [
        ({"scale_range": (0.5, 2.0)}, "training.scale_range=[0.5, 2.0]"),
        ({"scale_range": [0.5, 2]}, "training.scale_range=[0.5, 2.0]"),
        ({"head": {"rates": (1, 2)}}, "model.head.rates=[1, 2]"),
        ({"head": {"rates": (1, 2)}}, "model.head={rates: [1, 2]}"),
    ],
)
def test_one_value_in_two_ways_of_writing_it_is_accepted(options, assignment):
    load_config(options=options, assignments=[assignment])
    load_config(assignments=[assignment, assignment])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("val_fraction: 0.2, split_seed: 0, train_split: train, val_split: val", SplitOptions()),
        ("val_fraction: 0.3, split_seed: 4, train_split: train, val_split: val", SplitOptions(val=0.3, seed=4)),
        ("val_fraction: 0.2, split_seed: 4, train_split: train_aug, val_split: val", SplitOptions("train_aug", "val")),
        ("ignore: [1]", SplitOptions()),
    ],
)
def test_a_run_of_version_2_has_its_splits(tmp_path, old, new):
    stages = "stages: [{}, {data.train_split: trainval, training.lr: 0.1}]\n"
    path = write(tmp_path / "config.yaml", f"version: 2\ndata: {{source: shapes, {old}}}\n{stages}")
    config = load_config(recipe=path).config
    assert (config.version, config.data.split) == (3, new)
    assert config.stages[1] == {
        "training.lr": 0.1,
        "data.split.train": "trainval",
        "data.split.val": "val",
        "data.split.seed": 0,
        "data.split.group": None,
    }


def test_the_keys_of_version_2_are_named_with_what_replaces_them(tmp_path):
    path = write(tmp_path / "r.yaml", "data: {source: shapes, train_split: train_aug}\n")
    with pytest.raises(ConfigError, match=r"data\.train_split is unknown\nWrite data\.split\.train"):
        load_config(recipe=path)


def test_each_source_sets_some_keys_of_a_split(tmp_path):
    write(tmp_path / "atrous.yaml", 'data:\n  split: {val: 0.3, group: "^(.+?)_"}\n')
    recipe = write(tmp_path / "r.yaml", "data: {split: {seed: 5}}\n")
    loaded = load_config(recipe=recipe, options={"data.source": str(tmp_path)}, assignments=["data.split={val: 0.4}"])
    assert loaded.config.data.split == SplitOptions(val=0.4, seed=5, group="^(.+?)_")
    assert loaded.sources["data.split.group"] == f"{tmp_path / 'atrous.yaml'}:2"
    assert loaded.sources["data.split.train"] == "default"
    assert "data.split" not in loaded.sources


@pytest.mark.parametrize(
    "lines",
    [
        ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)],
        ["data: &a {classes: [*a]}"],
        ["data: &a {options: {a: &b {c: *a}, d: *b}}"],
    ],
)
def test_aliases_that_stand_for_too_much_are_refused_before_they_are_written_out(tmp_path, lines):
    write(tmp_path / "atrous.yaml", "\n".join(lines))
    with pytest.raises(ConfigError, match=r"atrous\.yaml: its aliases \(\*\) stand for more than 1,000,000 values"):
        load_config(options={"data.source": str(tmp_path)})


def test_aliases_are_read(tmp_path):
    write(tmp_path / "atrous.yaml", "data: {classes: &names [a, b], options: {names: *names}}")
    assert load_config(options={"data.source": str(tmp_path)}).config.data.options == {"names": ["a", "b"]}


def test_a_class_may_have_the_colour_that_it_is_drawn_in(tmp_path):
    write(tmp_path / "atrous.yaml", "data: {classes: {0: background, 1: {name: crack, colour: [255, 0, 0]}}}")
    config = load_config(options={"data.source": str(tmp_path)}).config
    assert config.data.class_names == {0: "background", 1: "crack"}
    assert config.data.class_colours == {1: (255, 0, 0)}
    write(tmp_path / "recipe.yaml", dump_config(config))
    assert load_config(recipe=tmp_path / "recipe.yaml").config == config
    assert DataConfig(classes=("a", "b")).class_colours == {}


@pytest.mark.parametrize(
    ("classes", "held"),
    [
        ("{0: {name: road, colour: [1, 2, 3]}, 1: {name: crack, colour: [255, 0]}}", "1: {'name': 'crack', "),
        ("{1: {name: crack, colour: [255, 0, 256]}}", "1: {'name': 'crack', 'colour': [255, 0, 256]}"),
        ("{1: {name: crack, colour: [255, 0, 0.5]}}", "1: "),
        ("{1: {name: crack, colour: red}}", "1: {'name': 'crack', 'colour': 'red'}"),
        ("{1: {name: crack, color: [255, 0, 0]}}", "1: "),
        ("{1: {name: crack}}", "1: "),
        ("{crack: [255, 0, 0]}", "crack: [255, 0, 0]"),
    ],
)
def test_colours_of_classes_in_another_form_are_refused_with_where_they_belong(tmp_path, classes, held):
    (tmp_path / "atrous.yaml").write_text(f"data:\n  classes: {classes}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(f"atrous.yaml:2: data.classes holds {held}")) as caught:
        load_config(options={"data.source": str(tmp_path)})
    assert "{0: background, 1: crack}, or {name: crack, colour: [255, 0, 0]}" in caught.value.hint
    assert "three whole numbers from 0 to 255" in caught.value.hint
    assert "data.colours says which id a colour is" in caught.value.hint
