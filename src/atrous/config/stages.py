"""Trainings one after another: from the settings of all and those of each to one configuration a stage."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from atrous.config.problems import (
    Problem,
    describe_unknown_key,
    describe_validation_error,
    list_keys,
    list_nested,
    raise_problems,
)
from atrous.config.schema import Config

LENGTH_FIELDS = ("epochs", "iterations", "max_minutes")

_WHOLE = ("version", "output", "stages")
_ONE_NETWORK = ("model.name", "model.weights")


def list_stages(config: Config) -> tuple[Config, ...]:
    """Return the configuration of each stage, itself without stages; of an ordinary run the one that it has.

    A stage that sets the length of the training replaces that of the run, in whichever of the three fields.

    Raises:
        ConfigError: See `check_stages`.
    """
    stages, problems = _resolve(config)
    raise_problems(problems)
    return tuple(_set_pooling_window(stage) for stage in stages)


def check_stages(config: Config) -> list[Problem]:
    """Return what stages set that is unknown, of another type, or not a stage's to set."""
    return _resolve(config)[1]


def _resolve(config: Config) -> tuple[tuple[Config, ...], list[Problem]]:
    """Return what could be resolved and what is wrong with the rest."""
    if not config.stages:
        return (config,), []
    stages, problems = [], []
    for number, settings in enumerate(config.stages):
        found = list(_check_keys(settings))
        tree = config.model_dump(mode="json", exclude={"stages"})
        if any(f"training.{name}" in settings for name in LENGTH_FIELDS):
            tree["training"].update(dict.fromkeys(LENGTH_FIELDS))
        for key, value in settings.items():
            nested = value if key in list_nested() and isinstance(value, Mapping) else {}
            for path, inner in {f"{key}.{name}": inner for name, inner in nested.items()}.items() or [(key, value)]:
                _put(tree, path.split("."), inner)
        try:
            if not found:
                stages.append(Config.model_validate_json(json.dumps(tree, default=str), strict=True))
        except ValidationError as error:
            found = describe_validation_error(error, {})
        problems += [problem._replace(key=f"stages.{number}.{problem.key}") for problem in found]
    return tuple(stages), problems


def _set_pooling_window(config: Config) -> Config:
    """Let image-level features be averaged over windows of the crop's size, where no other size is given."""
    model = config.model
    if model.image_pooling != "crop_window" or model.pooling_window is not None:
        return config
    return config.model_copy(update={"model": model.model_copy(update={"pooling_window": config.training.crop})})


def _check_keys(settings: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the keys that no stage may set."""
    for key in settings:
        field = ".".join(key.split(".")[:2])
        if "." not in key or key.split(".")[0] in _WHOLE:
            yield Problem(key, "is not a stage's to set", "A stage sets dotted keys, such as training.lr.")
        elif field in _ONE_NETWORK:
            yield Problem(
                key,
                "is not a stage's to set: all stages train one network, each from the weights of the one before",
                f"Set {field} outside the stages.",
            )
        elif field not in [*list_keys(), *list_nested()]:
            yield Problem(key, "is unknown", describe_unknown_key(field))
        elif key != field and not isinstance(settings.get(field, {}), Mapping):
            yield Problem(field, f"is {settings[field]!r}", f"{key} needs a mapping there.")


def _put(tree: dict[str, Any], path: list[str], value: Any) -> None:
    """Set a value in nested mappings; what is not a mapping on the way there is replaced by one."""
    for part in path[:-1]:
        if not isinstance(tree.get(part), dict):
            tree[part] = {}
        tree = tree[part]
    tree[path[-1]] = value
