"""What is wrong with a configuration, in words: one problem a line, all of them in one error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from atrous.config.schema import Config, Section
from atrous.core.errors import ConfigError
from atrous.core.registry import nearest_name

_PLAIN_WORDS = {
    "an object": "a mapping",
    "array": "a list",
    "string": "text",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "finite number": "a finite number",
}


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
        raise ConfigError("\n".join([f"{len(problems)} problems in the configuration:", *lines]))


def list_sections() -> dict[str, type[Section]]:
    """Return the sections of `Config` by name."""
    fields = {name: field.annotation for name, field in Config.model_fields.items()}
    return {name: kind for name, kind in fields.items() if isinstance(kind, type) and issubclass(kind, Section)}


def list_plain_keys() -> list[str]:
    """Return the keys of `Config` that are no sections."""
    return [name for name in Config.model_fields if name not in list_sections()]


def list_keys() -> list[str]:
    """Return every dotted key that a configuration may hold, without the free options of parts."""
    nested = [f"{section}.{field}" for section, kind in list_sections().items() for field in kind.model_fields]
    return [*list_plain_keys(), *nested]


def describe_unknown_key(key: str) -> str:
    """Say which key may have been meant instead of an unknown one, and what its section holds."""
    section, _, _ = key.rpartition(".")
    leaf = key.rpartition(".")[2]
    sections = list_sections()
    siblings = list(sections[section].model_fields) if section in sections else [*sections, *list_plain_keys()]
    leaves = {other.rpartition(".")[2]: other for other in reversed(list_keys())}
    near = nearest_name(leaf, siblings)
    if near and section in sections:
        near = f"{section}.{near}"
    guess = leaves.get(leaf) or near or leaves.get(nearest_name(leaf, list(leaves)))
    place = section if section in sections else "the configuration"
    return (f"Did you mean {guess}? " if guess else "") + f"Keys of {place}: {', '.join(siblings)}."


def describe_validation_error(error: ValidationError, sources: Mapping[str, str]) -> list[Problem]:
    """Turn pydantic's errors into problems: one a dotted key, with where its value came from."""
    by_key: dict[str, list[Any]] = {}
    for item in error.errors(include_url=False):
        by_key.setdefault(".".join(_find_path(item["loc"])), []).append(item)
    return [_describe_key(key, items, find_source(key, sources)) for key, items in by_key.items()]


def find_source(key: str, sources: Mapping[str, str]) -> str:
    """Return where `key`, or the nearest thing around or inside it, was set; empty if nowhere."""
    inside = [source for other, source in sources.items() if other.startswith(f"{key}.")]
    parts = key.split(".")
    around = [sources.get(".".join(parts[:length]), "") for length in range(len(parts), 0, -1)]
    return next((source for source in [*around, *inside] if source), "")


def _find_path(loc: tuple[int | str, ...]) -> tuple[str, ...]:
    """Cut what pydantic adds below a field: names of union branches and positions in a list."""
    return tuple(str(part) for part in loc[:2])


def _describe_key(key: str, items: Sequence[Mapping[str, Any]], where: str) -> Problem:
    first = items[0]
    if first["type"] == "extra_forbidden":
        return Problem(key, "is unknown", describe_unknown_key(key), where)
    allowed = list(dict.fromkeys(_shorten(item) for item in items))
    # The branches of a union complain one by one; the value as a whole is what the user wrote.
    got = first["input"] if len(first["loc"]) <= 2 else _find_whole(items)
    return Problem(key, f"is {got!r}", f"Allowed: {' or '.join(allowed)}.", where)


def _find_whole(items: Sequence[Mapping[str, Any]]) -> Any:
    nearest = min(items, key=lambda item: len(item["loc"]))
    return nearest["input"]


def _shorten(item: Mapping[str, Any]) -> str:
    text = str(item["msg"]).removeprefix("Input should be ").removeprefix("a valid ")
    return _PLAIN_WORDS.get(text, text)
