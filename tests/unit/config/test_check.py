from __future__ import annotations

import pytest

from atrous.config.check import check_config, require_valid
from atrous.config.load import load_config
from atrous.config.schema import Config
from atrous.core.errors import ConfigError


def test_the_defaults_are_sound():
    assert check_config(Config()) == []


@pytest.mark.parametrize(
    ("tree", "key", "text"),
    [
        (
            {"training": {"epochs": 1, "max_minutes": 2}},
            "training.epochs",
            "training.epochs = 1 and training.max_minutes",
        ),
        ({"training": {"scale_range": (2.0, 0.5)}}, "training.scale_range", "runs from 2 down to 0.5"),
        (
            {"training": {"class_weights": (1.0, 2.0)}, "data": {"classes": ("a", "b", "c")}},
            "training.class_weights",
            "has 2 weights for 3 classes",
        ),
        ({"training": {"auxiliary_weight": 0.1}}, "training.auxiliary_weight", "has no effect"),
        ({"training": {"norm": "frozen", "norm_momentum": 0.01}}, "training.norm_momentum", "has no effect"),
        (
            {"data": {"label_map": {255: 1}, "ignore": [0, 255]}},
            "data.ignore",
            "holds 255, which data.label_map maps to 1",
        ),
        (
            {"data": {"classes": {0: "a", 255: "b"}, "ignore": [255]}},
            "data.ignore",
            "holds 255, which is the class 'b'",
        ),
        ({"output": {"device": "gpu"}}, "output.device", "is 'gpu'"),
    ],
)
def test_each_rule_names_its_key(tree, key, text):
    (problem,) = check_config(Config.model_validate(tree))
    assert problem.key == key
    assert text in problem.text
    assert problem.hint


@pytest.mark.parametrize(
    "tree",
    [
        {"model": {"auxiliary": True}, "training": {"auxiliary_weight": 0.1}},
        {"training": {"class_weights": (1.0, 2.0)}},
        {"output": {"device": "cuda:1"}},
    ],
)
def test_what_belongs_together_passes(tree):
    assert check_config(Config.model_validate(tree)) == []


def test_every_problem_comes_at_once_with_its_source():
    with pytest.raises(ConfigError) as caught:
        load_config(options={"training.auxiliary_weight": 0.1, "device": "gpu"})
    first, *rest = caught.value.message.splitlines()
    assert first == "2 problems in the configuration:"
    assert rest[0].startswith("  `auxiliary_weight`: training.auxiliary_weight has no effect")
    assert rest[1].startswith("  `device`: output.device is 'gpu'. Allowed: auto, cpu")


def test_a_configuration_made_in_python_is_checked_too():
    config = Config.model_validate({"output": {"device": "gpu"}})
    with pytest.raises(ConfigError) as caught:
        require_valid(config)
    assert caught.value.message == "output.device is 'gpu'"
