"""Problems of a configuration, described in one line each and raised together."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from pydantic import ValidationError

from atrous.config.schema import Config, Section
from atrous.core.errors import ConfigError
from atrous.core.findings import shorten_list
from atrous.core.registry import nearest_name
from atrous.core.words import describe_count

_PLAIN_WORDS = {
    "an object": "a mapping",
    "array": "a list",
    "tuple": "a list",
    "dictionary": "a mapping",
    "string": "text",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "finite number": "a finite number",
}


RENAMED = {
    "data.val_fraction": "Write data.split.val, such as `split: {val: 0.2}`.",
    "data.split_seed": "Write data.split.seed, such as `split: {val: 0.2, seed: 0}`.",
    "data.train_split": "Write data.split.train, such as `split: {train: train_aug, val: val}`.",
    "data.val_split": "Write data.split.val, such as `split: {train: train, val: test}`.",
}
"""Keys of earlier forms, each with what to write now."""
_SECTION = re.compile(r"(a )?dictionary or (an )?instance of \w+")
"""How pydantic calls a section of the configuration."""


class Problem(NamedTuple):
    """One thing wrong.

    Args:
        key: The dotted key, such as "training.lr".
        text: What was got and what is wrong with it.
        hint: What is allowed or what to do.
        where: Where the value came from: a file with its line, or an option; empty where unknown.
    """

    key: str
    text: str
    hint: str
    where: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.key} {self.text}" if self.where else f"{self.key} {self.text}"


def raise_problems(problems: Sequence[Problem]) -> None:
    """Raise all problems as one error; do nothing if there are none.

    Raises:
        ConfigError: There is a problem.
    """
    if len(problems) == 1:
        raise ConfigError(str(problems[0]), problems[0].hint)
    if problems:
        lines = [f"  {problem}. {problem.hint}" for problem in problems]
        raise ConfigError("\n".join([f"{describe_count(len(problems), 'problem')} in the configuration:", *lines]))


def list_sections() -> dict[str, list[str]]:
    """Return the sections of `Config` by name, each with the names of its fields."""
    found = {name: _list_fields(field.annotation) for name, field in Config.model_fields.items()}
    return {name: names for name, names in found.items() if names}


def _list_fields(kind: Any) -> list[str]:
    if is_dataclass(kind):
        return [each.name for each in fields(kind)]
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, Section) else []


def list_nested() -> dict[str, list[str]]:
    """Return the sections inside the sections of `Config` by dotted key, each with the names of its fields."""
    kinds = {
        f"{section}.{name}": field.annotation
        for section, outer in Config.model_fields.items()
        if isinstance(outer.annotation, type) and issubclass(outer.annotation, Section)
        for name, field in outer.annotation.model_fields.items()
    }
    return {key: names for key, kind in kinds.items() if (names := _list_fields(kind))}


def list_plain_keys() -> list[str]:
    """Return the keys of `Config` that are no sections."""
    return [name for name in Config.model_fields if name not in list_sections()]


def list_keys() -> list[str]:
    """Return every dotted key that a configuration may hold, without the free options of parts."""
    nested = list_nested()
    keys = [f"{section}.{field}" for section, names in list_sections().items() for field in names]
    leaves = [leaf for key in keys for leaf in ([f"{key}.{name}" for name in nested[key]] if key in nested else [key])]
    return [*list_plain_keys(), *leaves]


def describe_unknown_key(key: str) -> str:
    """Say which key may have been meant instead of an unknown one, and what its section holds."""
    section, _, _ = key.rpartition(".")
    leaf = key.rpartition(".")[2]
    if key in RENAMED:
        return RENAMED[key]
    sections = list_sections() | list_nested()
    siblings = sections[section] if section in sections else [*list_sections(), *list_plain_keys()]
    by_depth = sorted(list_keys(), key=lambda other: other.count("."))
    leaves = {other.rpartition(".")[2]: other for other in reversed(by_depth)}
    near = nearest_name(leaf, siblings)
    if near and section in sections:
        near = f"{section}.{near}"
    guess = leaves.get(leaf) or near or leaves.get(nearest_name(leaf, list(leaves)))
    place = section if section in sections else "the configuration"
    return (f"Did you mean {guess}? " if guess else "") + f"Keys of {place}: {', '.join(siblings)}."


def find_section(kind: type[Section]) -> str:
    """Return the name that a section has in `Config`; empty for `Config` itself."""
    return next((name for name, field in Config.model_fields.items() if field.annotation is kind), "")


def describe_validation_error(
    error: ValidationError, sources: Mapping[str, str], *, depth: int = 2, within: str = ""
) -> list[Problem]:
    """Turn pydantic's errors into problems, one per key.

    Args:
        error: What pydantic raised.
        sources: Where each value came from, by key.
        depth: Names in a key: 2 for those of a configuration, such as "training.lr".
        within: The section that was checked by itself, if it was one.
    """
    by_key: dict[str, list[Any]] = {}
    for item in error.errors(include_url=False):
        item["loc"] = (within, *item["loc"]) if within else item["loc"]
        # Below a field pydantic adds names of union branches and positions in a list.
        length = depth + (".".join(map(str, item["loc"][:depth])) in list_nested() and len(item["loc"]) > depth)
        by_key.setdefault(".".join(map(str, item["loc"][:length])), []).append(item)
    return [
        _describe_key(key, items, find_source(key, sources), max(depth, key.count(".") + 1))
        for key, items in by_key.items()
    ]


def find_source(key: str, sources: Mapping[str, str]) -> str:
    """Return where `key`, or the nearest thing around or inside it, was set; empty if nowhere.

    Args:
        key: A dotted key.
        sources: Where each value came from, by dotted key.
    """
    inside = [source for other, source in sources.items() if other.startswith(f"{key}.")]
    parts = key.split(".")
    around = [sources.get(".".join(parts[:length]), "") for length in range(len(parts), 0, -1)]
    return next((source for source in [*around, *inside] if source), "")


def _describe_key(key: str, items: Sequence[Mapping[str, Any]], where: str, depth: int) -> Problem:
    first = items[0]
    if key == "data.classes" and isinstance(named := _find_whole(items), Mapping):
        wrong = {item["loc"][depth + 1] for item in items if len(item["loc"]) > depth + 1}
        if entries := {
            name: value for name, value in named.items() if name in wrong and isinstance(value, Mapping | list)
        }:
            return Problem(
                key,
                f"holds {shorten_list([f'{name}: {value!r}' for name, value in entries.items()])}",
                "Write the name of each id, {0: background, 1: crack}, or {name: crack, colour: [255, 0, 0]} with the "
                "colour that it is drawn in, three whole numbers from 0 to 255. If the masks are in colour, "
                "data.colours says which id a colour is: {[255, 0, 0]: 1}.",
                where,
            )
    if first["type"] == "json_invalid":  # what YAML and the command line can hold, and JSON cannot
        return Problem("a path or a text", "holds bytes that are not UTF-8", "Rename the folder or the file.")
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):  # of a model, of a dataclass
        return Problem(key, "is unknown", describe_unknown_key(key), where)
    # A list whose items are wrong is also called too short.
    told = [item for item in items if item["type"] != "too_short"] or items
    allowed = list(dict.fromkeys(_shorten(item) for item in told))
    # The branches of a union complain one by one; the value as a whole is what the user wrote.
    got = first["input"] if len(first["loc"]) <= depth else _find_whole(items)
    return Problem(key, f"is {got!r}", f"Allowed: {' or '.join(allowed)}.", where)


def _find_whole(items: Sequence[Mapping[str, Any]]) -> Any:
    nearest = min(items, key=lambda item: len(item["loc"]))
    return nearest["input"]


def _shorten(item: Mapping[str, Any]) -> str:
    if item["type"] == "too_short":
        return f"a list of at least {item['ctx']['min_length']}"
    if item["type"] == "too_long":
        return f"a list of at most {item['ctx']['max_length']}"
    if item["type"] == "value_error":
        return str(item["ctx"]["error"])
    if item["type"] in ("string_pattern_mismatch", "string_too_short"):
        return "text that is not empty"
    text = str(item["msg"]).removeprefix("Input should be ").removeprefix("a valid ").partition(", unable")[0]
    return "a mapping" if _SECTION.fullmatch(text) else _PLAIN_WORDS.get(text, text)
