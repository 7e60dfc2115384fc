"""The settings with which a run continues: those that it began with, or the same with a greater length."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from atrous.config.load import LoadedConfig
from atrous.config.run_settings import list_differences, list_settings
from atrous.config.schema import Config
from atrous.config.stages import LENGTH_FIELDS
from atrous.core.data_source import FOLDER, expand_path, resolve_source
from atrous.core.errors import DataError, ModelFileError, UsageError
from atrous.core.run_folder import RunFolder

_LENGTHS = tuple(f"training.{name}" for name in LENGTH_FIELDS)
_EXTENDED = "training.extended"


def settle_settings(config: Config, run: RunFolder, length: Mapping[str, float] | None = None) -> Config:
    """Return the settings with which a run continues.

    A run that was killed before its first checkpoint has its config.yaml alone, and begins with what that says.

    Args:
        config: All settings now.
        run: The run's folder.
        length: Of a run to extend its new length, such as {"epochs": 80.0}. Default: the run keeps its length.
    Raises:
        UsageError: Another setting of data, model, training, evaluation or stages differs, whether given now or edited
            into config.yaml; or the run cannot be extended.
        ModelFileError: The run has results and no checkpoint, or its checkpoint is damaged or has another format.
    """
    from atrous.training.checkpoint import explain_damage, load_record

    begun = next((folder for folder in (run, *run.iter_stages()) if folder.checkpoint.is_file()), None)
    if begun is None:
        if run.has_results:
            raise ModelFileError(
                f"{run.path} cannot be continued: it has no {run.checkpoint.name}",
                f"Start a new run with the same settings: atrous train --recipe {shlex.quote(str(run.config))}",
            )
        if length is not None:
            raise UsageError(f"{run.path} has not begun, so there is nothing to extend", "Start a run of that length.")
        return config
    with explain_damage(begun.checkpoint):
        record = load_record(begun.checkpoint)
        began: dict[str, Any] = record["settings"]
        done, planned = record["train_state"]["step"], record["plan"]["total_steps"]
    former = _read_extended(began)
    if length is None:
        now = _read_extended(list_settings(config))
        if len(now) == len(former) + 1 and now[:-1] == former:
            # A kill came between config.yaml and the first checkpoint of an extension, which did not take place.
            config = _set_length(config, began)
        _require_same(config, began, run)
        return config
    if begun != run:
        raise UsageError(
            f"{run.path} has not reached its last stage, which is the one that can be extended",
            f"Continue it first: atrous train --resume {shlex.quote(str(run.path))}",
        )
    _require_same(_set_length(config, began), began, run)
    own = {f"training.{name}": value for name, value in length.items()}
    return _set_length(config, began, own | {_EXTENDED: [*former, [done, planned]]})


def find_given_length(loaded: LoadedConfig) -> dict[str, float]:
    """Return the length that is given beside the config.yaml of a run to extend.

    Raises:
        UsageError: None is given.
    """
    training = loaded.config.training
    given = {
        name: getattr(training, name)
        for name in LENGTH_FIELDS
        if not loaded.sources.get(f"training.{name}", "default").startswith(("default", "recipe "))
        and getattr(training, name) is not None
    }
    if not given:
        raise UsageError(
            "the new length of the run is missing",
            "Give that of the whole, the steps done included: `epochs=100`, `iterations=20000` or `max_minutes=90`.",
        )
    return given


def find_moved_data(config: Config) -> Config:
    """Return the settings of a run to continue with its data below `data.root`, where their folder does not exist.

    Args:
        config: All settings, with absolute paths.
    Raises:
        DataError: `data.root` is given, and the data are not in it either.
    """
    root = config.data.root
    data = config.data.model_copy(update={"source": _find_source(config.data.source, root)})
    stages = tuple(
        stage
        if "data.source" not in stage
        else {**stage, "data.source": _find_source(stage["data.source"], stage.get("data.root") or root)}
        for stage in config.stages
    )
    return config.model_copy(update={"data": data, "stages": stages})


def _find_source(source: str, root: str | None) -> str:
    found = resolve_source(source)
    if root is None or found.root is None or found.root.is_dir():
        return source
    names = list(dict.fromkeys((found.root.name, *((found.dataset,) if found.dataset != FOLDER else ()))))
    for name in names:
        if (expand_path(root) / name).is_dir():
            return str(replace(found, root=expand_path(root) / name))
    raise DataError(
        f"the data of the run are neither in {found.root} nor in {root}, which has no folder {' or '.join(names)}",
        "Give the folder that holds this folder as `data_root`, or the data themselves as DATA.",
    )


def _read_extended(settings: Mapping[str, Any]) -> list[Any]:
    """Return `training.extended` of a run, or of its last stage, from settings in the form of `list_settings`."""
    last = settings["stages"][-1] if settings["stages"] else {}
    return list(last.get(_EXTENDED, settings.get(_EXTENDED, ())))


def _set_length(config: Config, began: Mapping[str, Any], new: Mapping[str, Any] | None = None) -> Config:
    """Return a configuration with the length that a run began with, or with a new one: of stages that of the last.

    Args:
        config: All settings.
        began: Those that the run began with, in the form of `list_settings`.
        new: The new length by dotted key.
    """
    tree = config.model_dump(mode="json")
    keys = (*_LENGTHS, _EXTENDED)
    began = {_EXTENDED: [], **began}  # which earlier versions did not know
    tree["training"] |= {key.partition(".")[2]: began[key] for key in keys if key in began}
    if tree["stages"] and began["stages"]:
        last, former = tree["stages"][-1], began["stages"][-1]
        kept = {key: value for key, value in last.items() if key not in keys}
        own = {key: former[key] for key in keys if key in former}
        tree["stages"][-1] = kept | ({**own, **new} if new else own)
        if new:
            for key in set(_LENGTHS) - new.keys():
                tree["stages"][-1].pop(key, None)
    elif new:
        tree["training"] |= {key.partition(".")[2]: new.get(key) for key in keys}
    return Config.model_validate_json(json.dumps(tree), strict=True)


def _require_same(config: Config, began: dict[str, Any], run: RunFolder) -> None:
    """Refuse to go on with other settings than the run began with."""
    changed = list_differences(config, began)
    if not changed:
        return
    verb = "differs" if len(changed) == 1 else "differ"
    hint = f"Remove the change from the command or from {run.config}, or start a new run."
    if {*changed} <= {*_LENGTHS}:
        hint = f"To train for longer: atrous train --extend {shlex.quote(str(run.path))}, with the new length."
    raise UsageError(f"Cannot resume {run.path}: {' and '.join(changed)} {verb} from the original run", hint)
