"""From YAML files, options and assignments to one checked `Config` that knows where each value came from.

Sources, later wins: defaults < `atrous.yaml` in the data folder (its `data` section) < recipe < options < assignments.
"""

from __future__ import annotations

import io
import itertools
import json
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from atrous.config.check import LENGTH_FIELDS, require_valid
from atrous.config.problems import (
    Problem,
    describe_unknown_key,
    describe_validation_error,
    find_source,
    list_keys,
    list_nested,
    list_sections,
    raise_problems,
)
from atrous.config.schema import VERSION, Config, DataConfig
from atrous.core.data_source import SETTINGS_NAME, DataSource, expand_path, resolve_source
from atrous.core.errors import ConfigError
from atrous.core.registry import describe_choices, nearest_name
from atrous.core.run_folder import RunFolder
from atrous.core.split_options import DEFAULT_SHARE, DEFAULT_TRAIN, DEFAULT_VAL

DEFAULT_EPOCHS = 50
DATA_VERSION = 1
"""Version of the form of `atrous.yaml`."""
MOST_VALUES = 1_000_000
"""Values that a YAML file may hold once its aliases are written out: a few lines can stand for billions."""

_OPTION_NAMES = {"model.name": "model", "output.folder": "out", "data.root": "data_root"}
_SHORT_NAMES = {"data": "data.source", "model": "model.name", "out": "output.folder", "data_root": "data.root"}


@dataclass(frozen=True)
class LoadedConfig:
    """A configuration and where each of its values came from.

    Args:
        config: The checked tree.
        sources: By dotted key: "default", "recipe runs/x/config.yaml:12", "`lr`", "`set` training.lr=0.1".
    """

    config: Config
    sources: dict[str, str]


class _Setting(NamedTuple):
    """A value, the keys that lead to it, and where it was written."""

    path: tuple[str, ...]
    value: Any
    source: str


def load_config(
    *,
    recipe: Path | str | None = None,
    options: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
    keywords: Collection[str] = (),
) -> LoadedConfig:
    """Merge all sources into one checked configuration.

    A later source that sets the length of the training replaces that of earlier ones, in whichever of the three fields.

    Args:
        recipe: A YAML file, or the name of a shipped recipe.
        options: Values by dotted key ("training.lr") or by field name alone ("lr"); None means not given.
        settings: Values by dotted key that the user did not write; a message about one names the key alone.
        assignments: Texts such as "training.lr=0.01"; the values are YAML.
        keywords: Names that the caller accepts beside the settings, for suggestions in place of an unknown option.
    Raises:
        ConfigError: Settings that are unknown, mistyped or impossible; all of them in one message.
    """
    problems: list[Problem] = []
    given = [_Setting(tuple(key.split(".")), value, "") for key, value in (settings or {}).items()]
    layers = [
        _read_recipe(recipe, problems) if recipe is not None else [],
        list(_open_sections(_read_options(options or {}, keywords, problems), problems)),
        list(_open_sections(given, problems)),
        list(_open_sections(_read_assignments(assignments, problems), problems)),
    ]
    problems += _check_doubled(layers[1], layers[3])
    data_settings = _read_data_file(layers, problems)
    tree, sources = _merge([data_settings, *layers], problems)
    if "stages" in tree:
        tree["stages"] = _complete_stages(tree["stages"], layers, data_settings, problems)
    training = tree.setdefault("training", {})
    if all(training.get(name) is None for name in LENGTH_FIELDS):
        training["epochs"] = DEFAULT_EPOCHS
    try:
        # Through JSON, because strict validation of JSON accepts a list for a tuple, and the text `no` for text alone.
        config = Config.model_validate_json(json.dumps(_make_keys_text(tree), default=str), strict=True)
    except ValidationError as error:
        problems += describe_validation_error(error, sources)
    raise_problems(list(dict.fromkeys(problems)))
    require_valid(config, sources)
    leaves = {key: sources.get(key, "default") for key in list_keys()}
    return LoadedConfig(config, leaves | sources)


def dump_config(config: Config) -> str:
    """Return the whole configuration as YAML, which is a recipe.

    Every key is written, also those without a value, so no `atrous.yaml` fills one in when the recipe is used.
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = None  # short lists on one line
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    stream = io.StringIO()
    yaml.dump(config.model_dump(mode="json"), stream)
    return stream.getvalue()


def list_recipes() -> list[str]:
    """Return the names of the shipped recipes."""
    folder = resources.files("atrous.config") / "recipes"
    return sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def _read_recipe(recipe: Path | str, problems: list[Problem]) -> list[_Setting]:
    path = Path(recipe)
    if path.suffix in (".yaml", ".yml"):
        return _read_version(list(_read_yaml(path, f"recipe {path}", problems)), path)
    if str(recipe) not in list_recipes():
        raise ConfigError(
            f"no recipe {str(recipe)!r}", f"{describe_choices(str(recipe), list_recipes())} Or a .yaml file."
        )
    with resources.as_file(resources.files("atrous.config") / "recipes" / f"{recipe}.yaml") as shipped:
        return list(_read_yaml(shipped, f"recipe {recipe}", problems))


def _read_version(settings: list[_Setting], path: Path) -> list[_Setting]:
    """Return the settings of a file in their present form.

    Raises:
        ConfigError: Its form is of a version that is not read any more.
    """
    version = next((setting.value for setting in settings if setting.path == ("version",)), VERSION)
    if not isinstance(version, int) or isinstance(version, bool) or version >= VERSION:
        return settings
    if version == 2:
        return _update_splits(settings)
    weights = RunFolder(path.parent).model
    way = f", or start it from this run's weights with `weights={weights}`" if weights.is_file() else ""
    raise ConfigError(
        f"{path} has format {version} of an earlier atrous, which this one does not read", f"Start a new run{way}."
    )


def _update_splits(settings: Sequence[_Setting]) -> list[_Setting]:
    """Return the settings of a file of version 2, in which a split had four keys, as those of version 3."""
    updated = []
    for path, value, source in settings:
        if path == ("stages",) and isinstance(value, list):
            value = [_update_stage(stage) if isinstance(stage, dict) else stage for stage in value]
        elif path == ("version",):
            value = VERSION
        updated.append(_Setting(path, value, source))
    data = {setting.path[1]: setting for setting in updated if setting.path[0] == "data" and len(setting.path) == 2}
    split = _convert_split({name: setting.value for name, setting in data.items()})
    kept = [setting for setting in updated if setting.path[1:2] not in [(name,) for name in _SPLIT_KEYS]]
    sources = [setting.source for name, setting in data.items() if name in _SPLIT_KEYS]
    return [*kept, *(_Setting(("data", "split", name), value, sources[0]) for name, value in split.items())]


def _update_stage(stage: Mapping[Any, Any]) -> dict[Any, Any]:
    split = _convert_split({key.removeprefix("data."): value for key, value in stage.items() if isinstance(key, str)})
    kept = {key: value for key, value in stage.items() if str(key).removeprefix("data.") not in _SPLIT_KEYS}
    return kept | {f"data.split.{name}": value for name, value in split.items()}


_SPLIT_KEYS = ("train_split", "val_split", "val_fraction", "split_seed")


def _convert_split(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of `data.split` that the keys of version 2 stand for; a share counted without splits alone."""
    if not data.keys() & {*_SPLIT_KEYS}:
        return {}
    train, val = data.get("train_split", DEFAULT_TRAIN), data.get("val_split", DEFAULT_VAL)
    share, seed = data.get("val_fraction", DEFAULT_SHARE), data.get("split_seed", 0)
    if (train, val) != (DEFAULT_TRAIN, DEFAULT_VAL):
        return {"train": train, "val": val, "seed": 0, "group": None}
    return {"train": None, "val": None if share == DEFAULT_SHARE else share, "seed": seed, "group": None}


def _read_data_file(layers: Sequence[list[_Setting]], problems: list[Problem]) -> list[_Setting]:
    """Read the `atrous.yaml` of the data; a source that names this file is replaced by the data it describes."""
    text, root = (_find_last(layers, key) for key in ("source", "root"))
    source = _resolve_text(text, root)
    if source is None or _list_given(layers) >= {
        key.partition(".")[2] for key in list_keys() if key.startswith("data.")
    }:
        return []  # the config.yaml of a run sets every key of data itself
    found = _read_data_settings(source, problems)
    if source.is_settings_named:
        for layer in layers:
            layer[:] = [setting for setting in layer if setting.path != ("data", "source")]
        if ("data", "source") not in [setting.path for setting in found]:
            found.append(_Setting(("data", "source"), str(source), str(source.settings)))
    return found


def _read_data_settings(source: DataSource, problems: list[Problem]) -> list[_Setting]:
    """Return the settings in the `atrous.yaml` of some data, with absolute paths; none if there is no such file."""
    if source.settings is None:
        _refuse_unread_settings(source.root)
        return []
    settings = list(_read_yaml(source.settings, str(source.settings), problems))
    for setting in settings:
        key = ".".join(setting.path)
        if setting.path == ("version",):
            if setting.value != DATA_VERSION or isinstance(setting.value, bool):
                hint = f"This atrous reads version {DATA_VERSION} of {SETTINGS_NAME}."
                problems.append(Problem(key, f"is {setting.value!r}", hint, setting.source))
        elif setting.path[0] != "data":
            problems.append(
                Problem(key, f"does not belong in {SETTINGS_NAME}", "Only its data section is read.", setting.source)
            )
    if not problems and all(setting.path[0] != "data" for setting in settings):
        raise ConfigError(
            f"{source.settings}:1: sets nothing of the data",
            "Write `data:`, then its keys, indented, such as `classes: [background, crack]`; or delete the file.",
        )
    problems += _check_data_settings(settings)
    found = [_resolve_place(setting, source.settings.parent) for setting in settings if len(setting.path) > 1]
    return [setting for setting in found if setting.path[0] == "data"]


def _complete_stages(
    stages: Any, layers: Sequence[list[_Setting]], data_settings: Sequence[_Setting], problems: list[Problem]
) -> Any:
    """Add to each stage with data of its own what the `atrous.yaml` of these data says.

    What the `atrous.yaml` of the run's data says is not about them: such keys are those of the stage's, or defaults.
    What a recipe or an option says holds for every stage.
    """
    if not isinstance(stages, list | tuple):
        return stages
    given = _list_given(layers) - {"source", "root"}
    plain = DataConfig().model_dump(mode="json")
    fields = {_name_field(setting) for setting in data_settings} - given - {"source", "root"}
    defaults = {f"data.{field}": reduce(dict.__getitem__, field.split("."), plain) for field in sorted(fields)}
    return [_complete_stage(stage, defaults, given, _find_last(layers, "root"), problems) for stage in stages]


def _complete_stage(
    stage: Any, defaults: Mapping[str, Any], given: Collection[str], root: Any, problems: list[Problem]
) -> Any:
    if not isinstance(stage, Mapping):
        return stage
    source = _resolve_text(stage.get("data.source"), stage.get("data.root", root))
    if source is None:
        return stage
    own = _read_data_settings(source, problems)
    found = {".".join(setting.path): setting.value for setting in own if _name_field(setting) not in given}
    if source.is_settings_named:
        stage = {**stage, "data.source": found.get("data.source", str(source))}
    own_settings = (_Setting(tuple(str(key).split(".")), value, "") for key, value in stage.items())
    opened = {".".join(each.path): each.value for setting in own_settings for each in _open_nested(setting)}
    return {**defaults, **found, **opened}


def _resolve_text(text: Any, root: Any) -> DataSource | None:
    """Resolve a `data.source` and a `data.root` that have not been checked; None if they are no texts."""
    if not isinstance(text, str) or not text or not (root is None or isinstance(root, str)):
        return None
    return resolve_source(text, root)


def _list_given(layers: Sequence[list[_Setting]]) -> set[str]:
    """Return the keys of data that a recipe, an option or an assignment sets, such as "ignore" or "split.val"."""
    return {_name_field(setting) for layer in layers for setting in layer if setting.path[0] == "data"}


def _name_field(setting: _Setting) -> str:
    """Return which field of data a setting is of."""
    return ".".join(setting.path[1 : 3 if ".".join(setting.path[:2]) in list_nested() else 2])


def _check_data_settings(settings: Sequence[_Setting]) -> list[Problem]:
    """Check settings of data by themselves: one of them may be of no effect later, and wrong nevertheless."""
    tree, sources = _merge([[setting for setting in settings if setting.path[0] == "data"]], [])
    try:
        Config.model_validate_json(json.dumps(_make_keys_text(tree), default=str), strict=True)
    except ValidationError as error:
        return describe_validation_error(error, sources)
    return []


def _refuse_unread_settings(folder: Path | None) -> None:
    """Refuse what looks like the settings of some data and would not be read."""
    for path in folder.iterdir() if folder is not None and folder.is_dir() else ():
        if path.name.lower() in (SETTINGS_NAME, SETTINGS_NAME.replace("yaml", "yml"), f"{SETTINGS_NAME}.txt"):
            what = "is not a file" if path.name == SETTINGS_NAME else "has another name than that"
            raise ConfigError(f"{path} is not read: it {what}", f"The settings of data are in a file {SETTINGS_NAME}.")


def _find_last(layers: Sequence[list[_Setting]], name: str) -> Any:
    """Return the value of a key of data that is set last; None if it is not set."""
    values = [setting.value for layer in layers for setting in layer if setting.path == ("data", name)]
    return values[-1] if values else None


def _resolve_place(setting: _Setting, folder: Path) -> _Setting:
    """Make a path in a data file absolute; it is relative to that file. A single word that is no folder is a name."""
    if setting.path not in (("data", "source"), ("data", "root")) or not isinstance(setting.value, str):
        return setting
    place = folder / expand_path(setting.value)
    if not place.exists() and setting.path[1] == "source":
        name, equals, path = setting.value.partition("=")
        if equals and "/" not in name:
            return setting._replace(value=f"{name}={folder / expand_path(path)}")
        if "/" not in setting.value:
            return setting
    return setting._replace(value=str(place))


def _read_yaml(path: Path, label: str, problems: list[Problem]) -> Iterator[_Setting]:
    """Yield the settings of a YAML file, each with its line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"cannot read {path}: {reason}", "Give a YAML file, or the name of a shipped recipe."
        ) from error
    yaml = YAML(typ="safe", pure=True)
    try:
        node = YAML(typ="safe", pure=True).compose(text)
        if _count_values(node, {}) > MOST_VALUES:
            raise ConfigError(
                f"{path}: its aliases (*) stand for more than {MOST_VALUES:,} values", "Write the settings themselves."
            )
        tree = yaml.load(text)
        lines = dict(_find_lines(node, ()))
    except (YAMLError, ValueError, RecursionError) as error:  # see `_read_assignments`
        raise ConfigError(*_describe_yaml_error(error, path)) from error
    if not isinstance(tree, dict):
        wrong = "is empty" if tree is None else f"not a mapping but {type(tree).__name__}"
        section = "data" if path.name == SETTINGS_NAME else "training"
        raise ConfigError(f"{path}:1: {wrong}", f"Write sections: `{section}:`, then its keys, indented.")
    yield from _open_sections(_list_settings(tree, lines, label), problems)


def _list_settings(tree: Mapping[Any, Any], lines: Mapping[tuple[str, ...], int], label: str) -> Iterator[_Setting]:
    for section, content in tree.items():
        name = str(section)
        line = lines.get((name,), 1)  # a key from an anchor has no line of its own
        if isinstance(content, dict) and name in list_sections():
            for field, value in content.items():
                where = lines.get((name, str(field)), line)
                for setting in _open_nested(_Setting((name, str(field)), value, f"{label}:{where}")):
                    yield setting._replace(source=f"{label}:{lines.get(setting.path, where)}")
        elif content is not None or name not in list_sections():
            yield _Setting((name,), content, f"{label}:{line}")


def _open_sections(settings: Iterable[_Setting], problems: list[Problem]) -> Iterator[_Setting]:
    """Yield settings, those of a whole section key by key; a section that is no mapping is a problem."""
    for setting in settings:
        if len(setting.path) > 1 or setting.path[0] not in list_sections():
            yield from _open_nested(setting)
        elif isinstance(setting.value, Mapping):
            for field, value in setting.value.items():
                yield from _open_nested(_Setting((*setting.path, str(field)), value, setting.source))
        else:
            name = setting.path[0]
            hint = f"Allowed: a mapping: write `{name}:`, then its keys, indented."
            problems.append(Problem(name, f"is {setting.value!r}", hint, setting.source))


def _open_nested(setting: _Setting) -> Iterator[_Setting]:
    """Yield a setting, that of a whole section inside a section key by key: each source sets some of its keys."""
    if ".".join(setting.path) in list_nested() and isinstance(setting.value, Mapping):
        for field, value in setting.value.items():
            yield _Setting((*setting.path, str(field)), value, setting.source)
    else:
        yield setting


def _describe_yaml_error(error: Exception, path: Path) -> tuple[str, str]:
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    lines = str(error.problem if isinstance(error, MarkedYAMLError) else error).splitlines()
    reason = lines[0] if lines else type(error).__name__
    where = f"{path}:{mark.line + 1}" if mark else str(path)
    doubled = reason.startswith("found duplicate key")
    return (
        f"{where}: {reason.split(' with value')[0]}",
        "Write each key once." if doubled else "Correct the YAML there.",
    )


def _count_values(node: Node | None, known: dict[int, float]) -> float:
    """Return how many values a YAML node holds once each alias is written out; infinite if it holds itself.

    Args:
        node: The node.
        known: What was counted, by the identity of the nodes; an alias is its node again.
    """
    if node is None or not isinstance(node, MappingNode | SequenceNode):
        return 1
    if id(node) not in known:
        known[id(node)] = math.inf  # what is found again before it is counted holds itself
        parts = itertools.chain(*node.value) if isinstance(node, MappingNode) else node.value
        known[id(node)] = 1 + sum(_count_values(part, known) for part in parts)
    return known[id(node)]


def _find_lines(node: Node | None, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], int]]:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            below = (*path, str(key.value))
            yield below, key.start_mark.line + 1
            yield from _find_lines(value, below)


def _check_doubled(options: Sequence[_Setting], assignments: Sequence[_Setting]) -> Iterator[Problem]:
    """Yield settings that the user wrote in two ways with different values: which one is meant cannot be known.

    Of the same option or key given twice the last one holds, as everywhere on a command line.
    """
    written: dict[tuple[str, ...], _Setting] = {}
    optional = {setting.path for setting in options}
    for setting in (*options, *assignments):
        own = dict(_list_leaves(setting.path, _make_keys_text(setting.value)))  # a tuple equals a list
        others = {
            path: other for path, other in written.items() if other.path != setting.path or other.path in optional
        }
        changed = [others[path] for path, value in own.items() if path in others and others[path].value != value]
        covered = [
            other for path, other in written.items() if path not in own and path[: len(setting.path)] == setting.path
        ]
        for other in [*changed, *covered][:1]:
            key = ".".join(setting.path)
            yield Problem(key, f"is given twice, by {other.source} and by {setting.source}", "Leave out one of them.")
        written |= {path: setting._replace(value=value) for path, value in own.items()}
    for first in filter(_is_length, options):
        for second in filter(_is_length, assignments):
            if first.path != second.path:
                text = f"plans the length, as {'.'.join(first.path)} does, by {first.source} and by {second.source}"
                yield Problem(".".join(second.path), text, "Give exactly one of them.")


def _list_leaves(path: tuple[str, ...], value: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _list_leaves((*path, str(key)), inner)
    else:
        yield path, value


def _read_options(options: Mapping[str, Any], keywords: Collection[str], problems: list[Problem]) -> Iterator[_Setting]:
    for name, value in options.items():
        if value is None:
            continue
        key = name if "." in name else _find_key(name)
        if key is None:
            near = nearest_name(name, [*keywords, *(key.rpartition(".")[2] for key in list_keys())])
            guess = f"Did you mean `{near}`?" if near in keywords else describe_unknown_key(name)
            problems.append(Problem(name, "is unknown", guess))
            continue
        leaf = key.rpartition(".")[2]
        value = str(value) if isinstance(value, Path) else value
        yield _Setting(
            tuple(key.split(".")), value, "DATA" if key == "data.source" else f"`{_OPTION_NAMES.get(key, leaf)}`"
        )


def _find_key(name: str) -> str | None:
    """Return the dotted key of a field; if two sections have the field, that of training."""
    keys = [key for key in list_keys() if key.rpartition(".")[2] == name and key.count(".") < 2]
    training = [key for key in keys if key.startswith("training.")]
    return _SHORT_NAMES.get(name) or next(iter([*training, *keys]), None)


def _read_assignments(assignments: Sequence[str], problems: list[Problem]) -> Iterator[_Setting]:
    for text in assignments:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not all(key.split(".")):
            problems.append(Problem("`set`", f"got {text!r}", "Write key=value, such as training.lr=0.01."))
            continue
        try:
            parsed = YAML(typ="safe", pure=True).load(value)
        except (YAMLError, ValueError, RecursionError):  # a date of month 13 is a ValueError
            problems.append(
                Problem(key, f"is {value!r}, which is not YAML", "Put the value in quotes.", f"`set` {text}")
            )
            continue
        yield _Setting(tuple(key.split(".")), parsed, f"`set` {text}")


def _merge(layers: Sequence[Sequence[_Setting]], problems: list[Problem]) -> tuple[dict[str, Any], dict[str, str]]:
    tree: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for layer in layers:
        if any(_is_length(setting) for setting in layer):
            for name in LENGTH_FIELDS:
                sources.pop(f"training.{name}", None)
                tree.get("training", {}).pop(name, None)
        for path, value, source in layer:
            node = tree
            for depth, part in enumerate(path[:-1], start=1):
                inner = node.get(part)
                if inner is not None and not isinstance(inner, dict):
                    key = ".".join(path[:depth])
                    hint = f"{'.'.join(path)} needs a mapping there."
                    problems.append(Problem(key, f"is {inner!r}", hint, find_source(key, sources)))
                node[part] = dict(inner) if isinstance(inner, dict) else {}
                node = node[part]
            node[path[-1]] = value
            key = ".".join(path)
            sources = {other: place for other, place in sources.items() if not other.startswith(f"{key}.")}
            sources[key] = source
    return tree, sources


def _make_keys_text(value: Any) -> Any:
    """Return nested values whose keys are all text, as JSON has them; YAML allows lists and dates as keys too."""
    if isinstance(value, Mapping):
        return {str(key): _make_keys_text(inner) for key, inner in value.items()}
    return [_make_keys_text(inner) for inner in value] if isinstance(value, list | tuple) else value


def _is_length(setting: _Setting) -> bool:
    return setting.path in [("training", name) for name in LENGTH_FIELDS] and setting.value is not None
