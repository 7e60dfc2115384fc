"""Arguments of public calls against their annotations, so that a wrong type is one sentence and not a trace."""

from __future__ import annotations

import functools
import inspect
import numbers
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from atrous.core.errors import UsageError
from atrous.core.paths import refuse_empty
from atrous.core.words import add_article

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_WORDS: dict[Any, str] = {
    str: "text",
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    NoneType: "None",
    Sequence: "a list",
    Mapping: "a dict",
    tuple: "a tuple",
    Callable: "a function",
}


def refuse_wrong_types(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Let a function refuse arguments of another type than its annotations say, and empty paths, by their names.

    Protocols accept any object that is no text, number or list: what they need is checked where it is used.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        hints = get_type_hints(function)
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            variadic = signature.parameters[name].kind in (
                inspect.Parameter.VAR_KEYWORD,
                inspect.Parameter.VAR_POSITIONAL,
            )
            if variadic or name not in hints:
                continue
            if not _fits(value, hints[name]):
                raise UsageError(f"{name} is {_show(value)}", f"Allowed: {_describe(hints[name])}.")
            if _takes_path(hints[name]):
                refuse_empty(value, name)
        return function(*args, **kwargs)

    return checked


def require_field_types(kind: type, values: Mapping[str, Any]) -> None:
    """Require that the fields of a dataclass, read from a file, have the types of its annotations.

    Args:
        kind: The dataclass.
        values: Values by name of the field.
    Raises:
        ValueError: One has another type; it is named.
    """
    hints = get_type_hints(kind)
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise ValueError(f"{name}: {_show(value)}")


def _fits(value: Any, hint: Any) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any or isinstance(hint, TypeVar):
        return True
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return isinstance(value, str | int) and value in parts
    kind = origin or hint
    if kind in (int, float):
        number: type = numbers.Integral if kind is int else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool)
    if _is_protocol(kind):
        return not isinstance(value, (str, bytes, numbers.Number, Sequence, Mapping, NoneType))
    if kind is Sequence:
        is_list = isinstance(value, Sequence) and not isinstance(value, (str, bytes))
        return is_list and all(_fits(item, part) for part in parts for item in value)
    if kind is Mapping:
        key, inner = parts or (Any, Any)
        return isinstance(value, Mapping) and all(_fits(k, key) and _fits(v, inner) for k, v in value.items())
    if kind is tuple and Ellipsis in parts:
        return isinstance(value, (tuple, list)) and all(_fits(item, parts[0]) for item in value)
    if kind is tuple and parts:
        is_list = isinstance(value, (tuple, list)) and len(value) == len(parts)
        pairs = zip(value, parts, strict=True) if is_list else ()
        return is_list and all(_is_protocol(part) or _fits(item, part) for item, part in pairs)
    return isinstance(value, kind)


def _takes_path(hint: Any) -> bool:
    return hint is Path or any(_takes_path(part) for part in get_args(hint))


def _is_protocol(hint: Any) -> bool:
    """Whether a hint is a protocol, whose members are checked, in better words, where the object is used."""
    return getattr(hint, "_is_protocol", False) and hint is not Callable


def _describe(hint: Any) -> str:
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(dict.fromkeys(_describe(part) for part in get_args(hint)))
    if get_origin(hint) is Literal:
        return " or ".join(repr(value) for value in get_args(hint))
    kind, parts = get_origin(hint) or hint, get_args(hint)
    words = _WORDS.get(kind, add_article(kind.__name__))
    if kind is Sequence and parts and parts != (Any,):
        return f"{words} of {_describe(parts[0])}"
    return words


def _show(value: Any) -> str:
    text = " ".join(repr(value).split())
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
