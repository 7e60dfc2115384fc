"""Options of a part against its own keyword-only parameters, so that each is written once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from atrous.core.errors import ConfigError
from atrous.core.registry import describe_choices


def read_options(
    part: Callable[..., Any], options: Mapping[str, Any], key: str, *, reserved: Collection[str] = ()
) -> dict[str, Any]:
    """Check options by name and type, and return them in their types.

    Args:
        part: A class or a function; its keyword-only parameters are its options.
        options: What was given.
        key: The dotted key that holds them, for messages.
        reserved: Keyword-only parameters that are given elsewhere and are no options.
    Raises:
        ConfigError: Options that the part does not have, or values of another type; all of them at once.
    """
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(part, eval_str=True).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and name not in reserved
    }
    problems, read = [], {}
    for name, value in options.items():
        if name not in parameters:
            problems.append(f"{key}.{name}: unknown option. {describe_choices(name, list(parameters))}")
            continue
        try:
            read[name] = TypeAdapter(parameters[name].annotation).validate_python(value)
        except ValidationError as error:
            problems.append(f"{key}.{name}: {error.errors()[0]['msg']}, got {value!r}")
    if problems:
        raise ConfigError("\n".join(problems), f"Mend {key}.")
    return read
