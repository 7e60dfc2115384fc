from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from atrous.config.problems import list_sections
from atrous.config.schema import Config, DataConfig, ModelConfig, OutputConfig, Section, TrainingConfig
from atrous.core.errors import ConfigError

FOREIGN = ("pydantic", "Input should", "valid ", "instance", "dictionary", "Tuple", "validation error")


@pytest.mark.parametrize("wrong", [3, None, "x", [1], ModelConfig], ids=str)
@pytest.mark.parametrize("name", list_sections())
def test_a_section_of_another_kind_is_one_sentence(name, wrong):
    wrong = DataConfig() if wrong is ModelConfig and name == "model" else wrong() if wrong is ModelConfig else wrong
    with pytest.raises(ConfigError) as caught:
        Config(**{name: wrong})
    assert caught.value.message == f"{name} is {wrong!r}"
    assert caught.value.hint == "Allowed: a mapping."
    assert caught.value.__context__ is None  # whose text Python would show above


@pytest.mark.parametrize(
    ("kind", "values", "message", "hint"),
    [
        (TrainingConfig, {"lr": "x"}, "training.lr is 'x'", "Allowed: a number."),
        (TrainingConfig, {"lr": -1}, "training.lr is -1", "Allowed: greater than 0."),
        (TrainingConfig, {"scale_range": (1, 2, 3)}, "training.scale_range is (1, 2, 3)", "a list of at most 2"),
        (TrainingConfig, {"epoch": 3}, "training.epoch is unknown", "Did you mean training.epochs?"),
        (ModelConfig, {"head": 3}, "model.head is 3", "Allowed: a mapping."),
        (DataConfig, {"classes": []}, "data.classes is []", "Allowed: a list of at least 1."),
        (OutputConfig, {"logger": ["x"]}, "output.logger is 'x'", "'tensorboard'"),
        (Config, {"trainin": {}}, "trainin is unknown", "Did you mean training?"),
        (Config, {"training": {"lr": "x"}}, "training.lr is 'x'", "Allowed: a number."),
        (Config, {"evaluation": {"window": "x"}}, "evaluation.window is 'x'", "a whole number or 'none'"),
        (Config, {"stages": [3]}, "stages.0 is 3", "Allowed: a mapping."),
    ],
)
def test_a_value_of_another_kind_is_named_by_its_key(kind, values, message, hint):
    with pytest.raises(ConfigError) as caught:
        kind(**values)
    assert caught.value.message == message
    assert hint in caught.value.hint


@pytest.mark.parametrize("kind", [Config, *Section.__subclasses__()], ids=lambda kind: kind.__name__)
def test_every_field_of_every_section_refuses_an_object_without_foreign_words(kind):
    for name, field in kind.model_fields.items():
        if TypeAdapter(field.annotation).json_schema() == {}:
            continue
        with pytest.raises(ConfigError) as caught:
            kind(**{name: object()})
        assert not any(word in caught.value.hint for word in FOREIGN)


def test_all_problems_come_at_once():
    with pytest.raises(ConfigError, match="2 problems in the configuration") as caught:
        Config(training={"lr": "x"}, model=3)
    assert "training.lr is 'x'" in str(caught.value)
    assert "model is 3" in str(caught.value)
