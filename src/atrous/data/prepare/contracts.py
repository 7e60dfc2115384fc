"""What passes between a data set's layout and a preparation: the files of the sources, and which of them go where."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from atrous.core.errors import DataError
from atrous.core.findings import shorten_list
from atrous.core.words import describe_count


@dataclass(frozen=True)
class SourceFile:
    """A file of a source.

    Args:
        source: The archive or the folder.
        name: Its path in there.
        size: Bytes.
    """

    source: Path
    name: str
    size: int

    def __str__(self) -> str:
        return f"{self.source}: {self.name}"


@dataclass(frozen=True)
class Contents:
    """The files of all sources.

    Args:
        files: The files.
        texts: Content of those that the layout reads as lists.
    """

    files: tuple[SourceFile, ...]
    texts: Mapping[SourceFile, str]

    def find(self, form: str) -> dict[str, SourceFile]:
        """Return the files whose path ends in a form, by that end.

        Args:
            form: A regular expression from the beginning of a name on, such as r"JPEGImages/[^/]+[.]jpg".
        Raises:
            DataError: Two files have the same end.
        """
        expression = re.compile(rf"(?:.*/)?({form})")
        found: dict[str, SourceFile] = {}
        for file in self.files:
            if (match := expression.fullmatch(file.name)) is None:
                continue
            if (other := found.setdefault(match[1], file)) is not file:
                raise DataError(
                    f"{match[1]} occurs twice: {other} and {file}", "Give each archive or folder once, and only one."
                )
        return found


@dataclass(frozen=True)
class Taken:
    """A file of a source that becomes a file of the result.

    Args:
        file: The file.
        convert: Turns its bytes into those that are written; None: they are copied.
    """

    file: SourceFile
    convert: Callable[[bytes], bytes] | None = None


@dataclass
class Plan:
    """What a preparation writes, and what keeps it from that.

    Args:
        splits: Number of images of each split.
        files: By path in the result: which file goes there.
        texts: By path in the result: lists that are written.
        problems: What is missing or wrong; with any, nothing is written.
    """

    splits: dict[str, int] = field(default_factory=dict)
    files: dict[str, Taken] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add_split(self, name: str, found: Collection[str], expected: int) -> None:
        """Record a split, whose number of images has to be the official one.

        Args:
            name: Name of the split.
            found: Names of its images.
            expected: The official number.
        """
        self.splits[name] = len(found)
        if len(found) != expected:
            self.problems.append(f"{name}: {describe_count(len(found), 'image')}, and {expected:,} are official")

    def take(self, wanted: Iterable[str], found: Mapping[str, SourceFile]) -> None:
        """Take files as they are; those that are missing are a problem.

        Args:
            wanted: Their paths, which are also those in the result.
            found: What there is.
        """
        missing = []
        for path in wanted:
            if path in found:
                self.files[path] = Taken(found[path])
            else:
                missing.append(path)
        if missing:
            self.problems.append(f"{describe_count(len(missing), 'file')} missing: {shorten_list(sorted(missing))}")

    def refuse_overlap(self, one: str, other: str, names: Collection[str]) -> None:
        """Record as a problem that two splits share images.

        Args:
            one: Name of a split.
            other: Name of the other.
            names: What is in both.
        """
        if names:
            count = describe_count(len(names), "image")
            self.problems.append(f"{count} of {one} also in {other}: {shorten_list(sorted(names))}")


@dataclass(frozen=True)
class Archive:
    """An archive that its site offers to everyone.

    Args:
        url: Its address.
        algorithm: "md5" or "sha1", whichever is published.
        digest: Its hash by that algorithm, in hexadecimal.
    """

    url: str
    algorithm: str
    digest: str

    def __str__(self) -> str:
        return f"{self.algorithm} {self.digest}"


class Layout(Protocol):
    """A registered data set: where it comes from, what it has to hold, and where that goes."""

    @property
    def origin(self) -> str:
        """Where its archives are, as a sentence."""
        ...

    @property
    def lists(self) -> str:
        """Form of the paths of files that are read before anything is decided, see `Contents.find`; empty for none."""
        ...

    @property
    def archives(self) -> tuple[Archive, ...]:
        """Those that can be downloaded by everyone, with a published hash."""
        ...

    def plan(self, contents: Contents) -> Plan:
        """Decide what becomes of some files.

        Raises:
            DataError: Two files have the same path.
            MachineError: A package is missing that the files need.
        """
        ...
