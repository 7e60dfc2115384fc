"""The settings of a run as its config.yaml keeps them: they start the same run again from any working directory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from atrous.config.load import dump_config
from atrous.config.schema import Config
from atrous.core.data_source import expand_path, resolve_source
from atrous.core.files import save_text
from atrous.core.shipped import SHIPPED

COMPARED_SECTIONS = ("data", "model", "training", "evaluation")
_PLACES = ("data.source", "data.root")


def make_absolute(config: Config) -> Config:
    """Return the configuration with absolute paths of data and weights.

    A registered data set that the environment variable locates is named with its folder.
    """
    data = config.data.model_copy(update=_resolve_data(config.data.source, config.data.root))
    weights = config.model.weights
    if weights not in ("imagenet", "none", *SHIPPED) and expand_path(weights).exists():
        weights = str(expand_path(weights).absolute())
    model = config.model.model_copy(update={"weights": weights})
    stages = []
    for stage in config.stages:
        settings = dict(stage)
        if "data.source" in stage or "data.root" in stage:
            root = stage.get("data.root", config.data.root)
            places = _resolve_data(stage.get("data.source", config.data.source), root)
            settings |= {f"data.{name}": value for name, value in places.items()}
        stages.append(settings)
    return config.model_copy(update={"data": data, "model": model, "stages": tuple(stages)})


def _resolve_data(source: str, root: str | None) -> dict[str, str | None]:
    if source:  # without one nothing is resolved: it would be the working directory
        found = resolve_source(source, root)
        source = str(found if found.root is None else replace(found, root=found.root.absolute()))
    return {"source": source, "root": None if root is None else str(expand_path(root).absolute())}


def save_run_config(path: Path, config: Config) -> None:
    """Write the config.yaml of a run, without its folder: as a recipe it starts a new run in a folder of its own.

    Args:
        path: The file.
        config: All settings, with absolute paths.
    """
    output = config.output.model_copy(update={"folder": None})
    save_text(path, dump_config(config.model_copy(update={"output": output})))


def list_settings(config: Config) -> dict[str, Any]:
    """Return the settings that a resumed run has to keep, by dotted key, as JSON.

    Where the data are and what the run is computed on may change.
    """
    tree = config.model_dump(mode="json")
    kept = {f"{section}.{name}": value for section in COMPARED_SECTIONS for name, value in tree[section].items()}
    stages = [{key: value for key, value in stage.items() if key not in _PLACES} for stage in tree["stages"]]
    return {key: value for key, value in kept.items() if key not in _PLACES} | {"stages": stages}


def list_differences(config: Config, began: dict[str, Any]) -> list[str]:
    """Return the keys of the settings that differ from those a run began with.

    Args:
        config: All settings now.
        began: What `list_settings` returned when the run began. What an earlier version did not know had its default.
    """
    settings = list_settings(Config()) | began
    return [key for key, value in list_settings(config).items() if value != settings[key]]
