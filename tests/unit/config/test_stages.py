from __future__ import annotations

from pathlib import Path

import pytest

from atrous.config.check import check_config
from atrous.config.load import dump_config, load_config
from atrous.config.schema import Config, TrainingConfig
from atrous.config.stages import list_stages
from atrous.core.errors import ConfigError


def test_a_run_without_stages_is_its_own_only_one():
    config = Config()
    assert list_stages(config) == (config,)


def test_a_stage_is_what_all_have_under_what_it_sets():
    common = {"training": TrainingConfig(iterations=7, lr=0.5, crop=65), "stages": ({}, {"training.lr": 0.25})}
    first, second = list_stages(Config(**common))
    assert first == Config(training=common["training"])
    assert second == Config(training=TrainingConfig(iterations=7, lr=0.25, crop=65))


def test_options_of_parts_are_set_one_by_one_and_null_is_a_value():
    loaded = load_config(
        assignments=[
            "model.head={rates: [1, 2], channels: 8}",
            "evaluation.window=65",
            "stages=[{}, {model.head.rates: [2], evaluation.window: null, training.class_weights: [1, 2]}]",
        ]
    )
    second = list_stages(loaded.config)[1]
    assert second.model.head == {"rates": [2], "channels": 8}
    assert second.evaluation.window is None
    assert second.training.class_weights == (1.0, 2.0)
    assert loaded.config.model.head == {"rates": [1, 2], "channels": 8}


def test_a_stages_own_length_replaces_that_of_all():
    loaded = load_config(assignments=["training.iterations=9", "stages=[{training.epochs: 2}, {}]"])
    first, second = list_stages(loaded.config)
    assert (first.training.epochs, first.training.iterations) == (2.0, None)
    assert (second.training.epochs, second.training.iterations) == (None, 9)


def test_stages_survive_being_written_down(tmp_path):
    config = load_config(assignments=["stages=[{training.lr: 1e-3}, {evaluation.window: null}]"]).config
    (tmp_path / "r.yaml").write_text(dump_config(config))
    assert load_config(recipe=tmp_path / "r.yaml").config == config


def test_everything_wrong_in_all_stages_comes_in_one_message_with_path_and_place(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "training:\n  iterations: 3\nstages:\n"
        "- {training.lrr: 1, training: {lr: 1}}\n"
        "- {output.folder: x, model.name: fcn-lite0, model.weights: none, stages: []}\n"
        "- {training.lr: fast, model.output_stride: seven}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(recipe=recipe)
    message = caught.value.message
    assert message.startswith("8 problems")
    for words in (
        "stages.0.training.lrr is unknown. Did you mean training.lr?",
        "stages.0.training is not a stage's to set. A stage sets dotted keys",
        "stages.1.output.folder is not a stage's to set",
        "stages.1.model.name is not a stage's to set: all stages train one network",
        "stages.1.model.weights is not a stage's to set",
        "stages.1.stages is not a stage's to set",
        "stages.2.training.lr is 'fast'. Allowed: a number or 'auto'.",
        "stages.2.model.output_stride is 'seven'",
    ):
        assert f"recipe {recipe}:3: {words}" in message


def test_each_stage_is_held_to_the_rules_of_a_training():
    training = TrainingConfig(iterations=3)
    frozen = {"training.norm": "frozen"}
    assert check_config(Config(training=training, stages=({"training.norm_momentum": 0.01}, frozen))) == []
    (problem,) = check_config(Config(training=training, stages=({}, frozen | {"training.norm_momentum": 0.01})))
    assert (problem.key, "has no effect" in problem.text) == ("stages.1.training.norm_momentum", True)
    wrong = TrainingConfig(iterations=3, scale_range=(2.0, 0.5))
    (problem,) = check_config(Config(training=wrong, stages=({}, frozen)))  # once, though both have it
    assert problem.key == "training.scale_range"


def test_auto_needs_a_stage_before():
    auto = {"training.hard_classes": "auto"}
    assert check_config(Config(stages=({}, auto))) == []
    assert [problem.key for problem in check_config(Config(stages=(auto, {})))] == ["stages.0.training.hard_classes"]
    (problem,) = check_config(Config(training=TrainingConfig(hard_classes="auto")))
    assert "no stage before" in problem.text
    (problem,) = check_config(Config(training=TrainingConfig(hard_repeats=3)))
    assert (problem.key, "no class is named" in problem.text) == ("training.hard_repeats", True)
    assert check_config(Config(training=TrainingConfig(hard_classes=("car",), hard_repeats=3))) == []


def test_a_stage_with_data_of_its_own_reads_the_settings_beside_them(tmp_path):
    for name, text in {
        "first": "ignore: [9], classes: [a, b, c], split: {val: 0.3}",
        "second": "classes: [x, y]",
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "atrous.yaml").write_text(f"data: {{{text}}}\n")
    (tmp_path / "third").mkdir()
    options = {
        "data.source": str(tmp_path / "first"),
        "data.split.seed": 5,
        "stages": [
            {},
            {"data.source": str(tmp_path / "second")},
            {"data.source": str(tmp_path / "second" / "atrous.yaml"), "data.ignore": [7]},
            {"data.source": str(tmp_path / "third")},
        ],
    }
    (tmp_path / "run.yaml").write_text(dump_config(load_config(options=options).config))
    for loaded in (load_config(options=options), load_config(recipe=tmp_path / "run.yaml")):
        found = [stage.data for stage in list_stages(loaded.config)]
        assert [data.classes for data in found] == [("a", "b", "c"), ("x", "y"), ("x", "y"), None]
        assert [data.ignored_values for data in found] == [(9,), (255,), (7,), (255,)]
        assert [data.split.val for data in found] == [0.3, None, None, None]
        assert {data.split.seed for data in found} == {5}  # an option holds for every stage
        assert [Path(data.source).name for data in found] == ["first", "second", "second", "third"]


def test_a_mistake_in_the_settings_beside_a_stages_data_names_the_file(tmp_path):
    (tmp_path / "atrous.yaml").write_text("data:\n  clases: [a]\n")
    with pytest.raises(ConfigError, match=r"data\.clases is unknown"):
        load_config(options={"data.source": "shapes", "stages": [{"data.source": str(tmp_path)}]})


def test_a_stage_sets_some_keys_of_a_split_and_keeps_the_others(tmp_path):
    for name, text in {"first": "{val: 0.3, seed: 2}", "second": "{train: a, val: b}"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "atrous.yaml").write_text(f"data: {{split: {text}}}\n")
    second = str(tmp_path / "second")
    options = {
        "data.source": str(tmp_path / "first"),
        "stages": [
            {"data.split": {"val": 0.4}},
            {"data.split.seed": 3},
            {"data.source": second},
            {"data.source": second, "data.split": {"val": "c"}},
        ],
    }
    (tmp_path / "run.yaml").write_text(dump_config(load_config(options=options).config))
    for loaded in (load_config(options=options), load_config(recipe=tmp_path / "run.yaml")):
        found = [stage.data.split for stage in list_stages(loaded.config)]
        assert [(split.train, split.val, split.seed) for split in found] == [
            (None, 0.4, 2),
            (None, 0.3, 3),
            ("a", "b", 0),
            ("a", "c", 0),
        ]
    with pytest.raises(ConfigError, match=r"stages\.0\.data\.split\.val is 7"):
        load_config(options={"data.source": "shapes", "stages": [{"data.split": {"val": 7}}]})
