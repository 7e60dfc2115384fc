"""Tables of parts: a dict of lazy names, so that nothing is imported until it is asked for."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from atrous.core.errors import ConfigError, MachineError


def nearest_name(name: str, allowed: list[str]) -> str:
    """Return the allowed name that looks most like `name`, or an empty string if none does."""
    found = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    return found[0] if found else ""


def describe_choices(name: str, allowed: list[str]) -> str:
    """Say what could have been meant instead of `name`, nearest first, in one sentence."""
    near = nearest_name(name, allowed)
    guess = f"Did you mean {near!r}? " if near else ""
    return f"{guess}Allowed: {', '.join(allowed) if allowed else 'none'}."


class Registry(Mapping[str, str]):
    """A table from names to parts, written as "module:attribute" and imported on first use.

    Args:
        kind: What the table holds, for messages, such as "backbone".
        entries: Pairs of name and "module:attribute"; pairs, not a dict, so that a doubled name is seen.
        extras: The optional dependency group that a name needs, if any.
    Raises:
        ValueError: A name stands twice.
    """

    def __init__(
        self, kind: str, entries: tuple[tuple[str, str], ...], extras: Mapping[str, str] | None = None
    ) -> None:
        names = [name for name, _ in entries]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"{kind} table: {', '.join(doubled)} stands twice")
        self.kind = kind
        self._entries = dict(entries)
        self._extras = dict(extras or {})

    def __getitem__(self, name: str) -> str:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def require(self, name: str) -> str:
        """Return the lazy name of a part.

        Raises:
            ConfigError: `name` is not in the table.
        """
        if name not in self._entries:
            raise ConfigError(f"unknown {self.kind} {name!r}", describe_choices(name, list(self._entries)))
        return self._entries[name]

    def load(self, name: str) -> Any:
        """Import a part and return it.

        Raises:
            ConfigError: `name` is not in the table.
            MachineError: A package that the part needs is not installed.
        """
        module, _, attribute = self.require(name).partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.split(".")[0] == "atrous":
                raise
            extra = self._extras.get(name)
            package = f"atrous[{extra}]" if extra else error.name
            raise MachineError(
                f"{self.kind} {name!r} needs the package {error.name}", f"pip install '{package}'"
            ) from error
