"""Tables of parts by lazy names, so that nothing is imported until it is used."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from atrous.core.errors import ConfigError, MachineError
from atrous.core.install import describe_install


def nearest_name(name: str, allowed: list[str]) -> str:
    """Return the allowed name most similar to a given one, or an empty string if none is similar.

    Args:
        name: The given name.
        allowed: The allowed names.
    """
    found = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    return found[0] if found else ""


def list_nearest(name: str, allowed: list[str], count: int) -> list[str]:
    """Return the allowed names that are most similar to a given one, the most similar first.

    Args:
        name: The given name.
        allowed: The allowed names.
        count: Number of names, at least 1.
    """
    return difflib.get_close_matches(name, allowed, n=count, cutoff=0.0)


def describe_choices(name: str, allowed: list[str]) -> str:
    """Return a hint that lists the allowed names, with the one most similar to a given name first.

    Args:
        name: The given name.
        allowed: The allowed names.
    """
    near = nearest_name(name, allowed)
    guess = f"Did you mean {near!r}? " if near else ""
    return f"{guess}Allowed: {', '.join(allowed) if allowed else 'none'}."


class Registry(Mapping[str, str]):
    """A table from names to parts, written as "module:attribute" and imported on first use.

    Args:
        kind: What the table holds, for messages, such as "backbone".
        entries: Name, "module:attribute" and any tags of each part; a tuple rather than a dict, so that a duplicate
            name is noticed. A tag says something of the part that must be known before it is imported.
        extras: The optional dependency group that a name needs, if any.
    Raises:
        ValueError: A name occurs twice.
    """

    def __init__(
        self, kind: str, entries: tuple[tuple[str, ...], ...], extras: Mapping[str, str] | None = None
    ) -> None:
        self.kind = kind
        self._entries = self._read_entries(entries)
        self._extras = dict(extras or {})

    def _read_entries(self, entries: tuple[tuple[str, ...], ...]) -> dict[str, tuple[str, ...]]:
        names = [name for name, *_ in entries]
        duplicates = sorted({name for name in names if names.count(name) > 1})
        if duplicates:
            raise ValueError(f"{self.kind} table: {', '.join(duplicates)} occurs twice")
        return {name: (part, *tags) for name, part, *tags in entries}

    @contextmanager
    def including(self, *entries: tuple[str, ...]) -> Iterator[None]:
        """Add parts from outside this package to the table while the `with` block runs.

        The block may be as long as a program. Other threads see the parts too; processes that are started from
        scratch (spawned) do not.

        Args:
            entries: Name, "module:attribute" and tags, as in the table itself.
        Raises:
            ValueError: A name occurs twice.
        """
        self._entries = self._read_entries((*((name, *rest) for name, rest in self._entries.items()), *entries))
        try:
            yield
        finally:
            added = {name for name, *_ in entries}
            self._entries = {name: part for name, part in self._entries.items() if name not in added}

    def __getitem__(self, name: str) -> str:
        return self._entries[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def find_tagged(self, tag: str) -> list[str]:
        """Return the names of the parts that have a tag, in the table's order."""
        return [name for name, (_, *tags) in self._entries.items() if tag in tags]

    def find_extra(self, name: str) -> str:
        """Return the optional dependency group that a part needs; empty if it needs none."""
        return self._extras.get(name, "")

    def require(self, name: str) -> str:
        """Return the lazy name of a part.

        Raises:
            ConfigError: `name` is not in the table.
        """
        if name not in self._entries:
            raise ConfigError(f"unknown {self.kind} {name!r}", describe_choices(name, list(self._entries)))
        return self._entries[name][0]

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
            raise MachineError(
                f"{self.kind} {name!r} needs the package {error.name}",
                describe_install(error.name, self.find_extra(name)),
            ) from error
