"""Options of a part against its own keyword-only parameters, so that each is written once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from atrous.config.problems import describe_validation_error, raise_problems
from atrous.core.errors import ConfigError
from atrous.core.inference_options import InferenceOptions, Opening
from atrous.core.registry import describe_choices

Options = TypeVar("Options", bound=InferenceOptions | Opening)


def update_options(defaults: Options, given: Mapping[str, Any]) -> Options:
    """Return options with given values in place of the defaults.

    Args:
        defaults: Options that hold where nothing is given.
        given: Values by name; None means not given.
    Raises:
        ConfigError: A value has another type or is out of range; all of them in one message.
    """
    values = vars(defaults) | {name: value for name, value in given.items() if value is not None}
    try:
        return TypeAdapter(type(defaults)).validate_python(values)
    except ValidationError as error:
        problems = describe_validation_error(error, {}, depth=1)
        raise_problems([problem._replace(key=f"`{problem.key}`") for problem in problems])
        raise


def read_options(
    part: Callable[..., Any],
    options: Mapping[str, Any],
    key: str,
    *,
    reserved: Collection[str] = (),
    largest: int = 2**32 - 1,
) -> dict[str, Any]:
    """Check options by name and type, and return them in their types.

    Args:
        part: A class or a function; its keyword-only parameters are its options.
        options: What was given.
        key: The dotted key that holds them, for messages.
        reserved: Keyword-only parameters that are given elsewhere and are no options.
        largest: What no number may exceed, in size; libraries below overflow at some.
    Raises:
        ConfigError: Options that the part does not have, values of another type, or numbers out of range; all of them
            at once.
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
            continue
        if not _is_within(read[name], largest):
            problems.append(f"{key}.{name}: {value!r} is out of range; allowed: numbers up to {largest:,}")
    if problems:
        raise ConfigError("\n".join(problems), f"Correct {key}.")
    return read


def _is_within(value: Any, largest: int) -> bool:
    """Whether a number, or each of a list, is finite and at most `largest` in size."""
    if isinstance(value, list | tuple):
        return all(_is_within(item, largest) for item in value)
    return not isinstance(value, int | float) or abs(value) <= largest
