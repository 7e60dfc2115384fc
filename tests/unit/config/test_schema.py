from __future__ import annotations

import pytest
import torch
from pydantic import TypeAdapter

from atrous.config.load import load_config
from atrous.config.problems import list_sections
from atrous.config.schema import Config, DataConfig, ModelConfig, OutputConfig, Section, TrainingConfig
from atrous.core.errors import ConfigError
from atrous.core.seeds import MAX_SEED, compute_step_seed

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
        (TrainingConfig, {"lr": "x"}, "training.lr is 'x'", "Allowed: a number or 'auto'."),
        (TrainingConfig, {"lr": -1}, "training.lr is -1", "Allowed: greater than 0 or 'auto'."),
        (TrainingConfig, {"scale_range": (1, 2, 3)}, "training.scale_range is (1, 2, 3)", "a list of at most 2"),
        (TrainingConfig, {"epoch": 3}, "training.epoch is unknown", "Did you mean training.epochs?"),
        (ModelConfig, {"head": 3}, "model.head is 3", "Allowed: a mapping."),
        (DataConfig, {"classes": []}, "data.classes is []", "Allowed: a list of at least 1."),
        (OutputConfig, {"logger": ["x"]}, "output.logger is 'x'", "'tensorboard'"),
        (Config, {"trainin": {}}, "trainin is unknown", "Did you mean training?"),
        (Config, {"training": {"lr": "x"}}, "training.lr is 'x'", "Allowed: a number or 'auto'."),
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


def list_numbers(schema, definitions, where=""):
    """Yield where a JSON schema has a number, with what is said of it."""
    if schema.get("type") in ("integer", "number"):
        yield where, schema
    parts = [schema.get("items"), *schema.get("prefixItems", ()), *schema.get("anyOf", ()), *schema.get("oneOf", ())]
    if "$ref" in schema:
        parts.append(definitions[schema["$ref"].rpartition("/")[2]])
    for part in filter(None, parts):
        yield from list_numbers(part, definitions, where)
    for name, part in schema.get("properties", {}).items():
        yield from list_numbers(part, definitions, f"{where}.{name}".lstrip("."))


NUMBERS = [
    (key, number)
    for key, number in list_numbers(Config.model_json_schema(), Config.model_json_schema()["$defs"])
    if key != "version"
]


@pytest.mark.parametrize(("key", "number"), NUMBERS, ids=[key for key, _ in NUMBERS])
def test_every_number_has_a_smallest_and_a_largest_value(key, number):
    assert {"minimum", "exclusiveMinimum"} & set(number), key
    assert {"maximum", "exclusiveMaximum"} & set(number), key


@pytest.mark.parametrize("value", [10**30, -(10**30), 1e300, 2**64, 2**63 - 1, -1e300])
@pytest.mark.parametrize("key", dict(NUMBERS))
def test_an_extreme_number_is_refused_in_words(key, value):
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")) as caught:
        load_config(options={key: [value, value] if key in LISTS else value})
    assert "Allowed" in str(caught.value)


LISTS = ("data.ignore", "model.multi_grid", "training.scale_range", "training.class_weights", "evaluation.scales")


def test_the_seeds_of_the_steps_of_a_run_fit_into_64_bits():
    limits = {key: int(number.get("maximum", 0)) for key, number in NUMBERS}
    assert limits["training.seed"] == limits["data.split.seed"] == MAX_SEED
    assert compute_step_seed(MAX_SEED, limits["training.iterations"]) < 2**63
    torch.manual_seed(compute_step_seed(MAX_SEED, limits["training.iterations"]))
    with pytest.raises(ConfigError, match=r"training.seed is 4294967296\nAllowed: less than or equal to 4294967295."):
        load_config(options={"seed": MAX_SEED + 1})
