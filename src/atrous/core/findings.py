"""What a check found, as plain data: findings, the ids of masks, and how findings stop a command."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from atrous.core.data_source import SETTINGS_NAME
from atrous.core.errors import SKIPPED_EXIT_CODE, DataError
from atrous.core.records import Note
from atrous.core.words import escape_unprintable

Severity = Literal["error", "warning", "note"]
"""An error stops a training, a warning may cost accuracy, a note says what was done."""
FILES_KEPT = 3
"""Files that a finding names as data."""
IGNORED, UNKNOWN = "ignored", "unknown"
"""In place of a name, what an id is that is no class."""
SETTINGS_SHOWN = 40
"""Entries of one setting that a screen shows; an atrous.yaml that is written holds all."""
OTHERS_SHOWN, UNNAMED_SHOWN = 10, 40
"""Ids that are not classes, and classes without names, that are listed: masks that are photos hold hundreds."""
LINES_SHOWN = 5
"""Items that a message lists before it counts the rest."""
_PLAIN = re.compile(r"(?!(?i:true|false|null)$)[A-Za-z][\w-]*")
"""Texts that YAML reads as themselves without quotes."""


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Args:
        code: What was found, such as "size-mismatch": the name of the check in its table.
        severity: "error", "warning" or "note".
        count: Number of files, classes or other things concerned.
        message: The finding as text, with the files, ids and pixel counts concerned.
        files: The first few files concerned, at most `FILES_KEPT`.
        fix: What to do; empty if nothing has to be done.
        settings: The keys of `data` in atrous.yaml that do it, if that is all; lists of several findings are joined.
        command: The command that does it, if one does.
    """

    code: str
    severity: Severity
    count: int
    message: str
    files: tuple[str, ...] = ()
    fix: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    command: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", tuple(self.files[:FILES_KEPT]))
        object.__setattr__(self, "message", escape_unprintable(self.message))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON; the fix has the keys "text", "yaml" and "command" that are not empty."""
        fix = {"text": self.fix, "yaml": format_settings(self.settings), "command": self.command}
        return {
            "code": self.code,
            "severity": self.severity,
            "count": self.count,
            "files": list(self.files),
            "message": self.message,
            "fix": {key: text for key, text in fix.items() if text},
        }

    def to_note(self) -> Note:
        """Return the code and the message."""
        return Note(self.code, self.message)


@dataclass(frozen=True)
class ClassCount:
    """What the masks hold of one id.

    Args:
        id: The id.
        name: Name of its class, or "ignored" or "unknown".
        pixels: Pixels in all masks.
        images: Masks that hold it.
        share: Its pixels / all pixels of all masks.
        first_file: The first mask that holds it; empty if none does.
        is_class: Whether it is a class: otherwise it is ignored or unknown.
        is_named: Whether the user or a registered data set named it.
    """

    id: int
    name: str
    pixels: int
    images: int
    share: float
    first_file: str = ""
    is_class: bool = True
    is_named: bool = True

    @property
    def is_ignored(self) -> bool:
        """Whether its pixels are neither trained on nor scored."""
        return not self.is_class and self.name == IGNORED


@dataclass(frozen=True)
class CheckResult:
    """What a check of some data found.

    Args:
        data: What was checked, such as a folder.
        layout: How its files are laid out; empty if no layout explains them.
        num_images: Number of images, with a mask or without.
        num_pairs: Number of pairs of an image and a mask.
        ids: What the masks hold: the classes in their order, then the other ids.
        findings: All findings, errors first.
    """

    data: str
    layout: str = ""
    num_images: int = 0
    num_pairs: int = 0
    ids: tuple[ClassCount, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """The keys of `data` in an atrous.yaml that says what was found; with those that solve findings."""
        classes = {row.id: row.name for row in self.ids if row.is_class}
        solving = merge_settings(finding.settings for finding in self.findings)
        mapped = solving.get("label_map", {})
        ignored = [row.id for row in self.ids if row.is_ignored and row.id not in mapped]
        return ({"classes": classes, "ignore": ignored} if classes else {}) | solving

    def list_ids(self) -> tuple[list[ClassCount], list[ClassCount]]:
        """Return the ids that a table shows, and those that it counts."""
        classes, others = ([row for row in self.ids if row.is_class is wanted] for wanted in (True, False))
        named, unnamed = ([row for row in classes if row.is_named is wanted] for wanted in (True, False))
        shown = {row.id for row in (*named, *unnamed[:UNNAMED_SHOWN], *others[:OTHERS_SHOWN])}
        rows = [*classes, *others]
        return [row for row in rows if row.id in shown], [row for row in rows if row.id not in shown]

    @property
    def exit_code(self) -> int:
        """The exit code of the command line: 3 with errors, 1 with warnings, else 0."""
        severities = {finding.severity for finding in self.findings}
        if "error" in severities:
            return DataError.exit_code
        return SKIPPED_EXIT_CODE if "warning" in severities else 0

    def to_json(self) -> dict[str, Any]:
        """Return the form of `atrous check --json`."""
        return {
            "images": self.num_images,
            "pairs": self.num_pairs,
            "classes": [
                {"id": row.id, "name": row.name, "pixels": row.pixels, "images": row.images, "share": row.share}
                for row in self.ids
                if row.is_class
            ],
            "findings": [finding.to_json() for finding in self.findings],
        }


def require_no_errors(findings: Iterable[Finding]) -> None:
    """Stop if there are findings of severity error.

    Raises:
        DataError: There are; the message and the hint cover all of them.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if errors:
        raise build_error(errors)


def build_error(errors: Sequence[Finding]) -> DataError:
    """Return the error that says what was found, and how to solve it.

    Args:
        errors: One finding or more.
    """
    lines = [finding.message for finding in errors]
    message = lines[0] if len(lines) == 1 else "\n  ".join(["the data cannot be used:", *lines])
    hints = list(dict.fromkeys(finding.fix for finding in errors if finding.fix))
    if yaml := format_settings(merge_settings(finding.settings for finding in errors), SETTINGS_SHOWN):
        hints.append(f"In {SETTINGS_NAME}:\n{yaml}")
    return DataError(message, " ".join(hints).rstrip(), findings=errors)


def list_fixes(findings: Iterable[Finding], most: int | None = None) -> list[dict[str, str]]:
    """Return the fix of each finding as text, each sentence, command and line of an atrous.yaml once.

    Args:
        findings: The findings in the order in which they are shown.
        most: See `format_settings`.
    Returns:
        For each the keys "text", "command" and "yaml" that are not empty; a text names the finding that has its lines.
    """
    texts: set[str] = set()
    solved: dict[tuple[str, str], str] = {}
    shown = []
    for finding in findings:
        text = "" if finding.fix in texts else finding.fix
        solution = (finding.command, format_settings(finding.settings, most))
        if before := solved.get(solution):
            same = f"{'The lines' if finding.settings else 'The command'} of {before} above"
            text, solution = f"{text} {same} {'do' if finding.settings else 'does'} it.".strip(), ("", "")
        elif any(solution):
            solved[solution] = finding.code
        texts.add(finding.fix)
        shown.append({"text": text, "command": solution[0], "yaml": solution[1]})
    return [{key: text for key, text in fix.items() if text} for fix in shown]


def merge_settings(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the keys of `data` of several parts as one: lists and mappings of one key are joined."""
    merged: dict[str, Any] = {}
    for key, value in (setting for part in parts for setting in part.items()):
        before = merged.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[key] = {**before, **value}
        elif isinstance(before, list | tuple) and isinstance(value, list | tuple):
            merged[key] = [*before, *(each for each in value if each not in before)]
        else:
            merged[key] = value
    return merged


def format_settings(settings: Mapping[str, Any], most: int | None = None) -> str:
    """Return keys of `data` as the lines of an atrous.yaml; empty if there are none.

    Args:
        settings: The keys with their values.
        most: Entries of one list or table that are written, with the number of the others as a comment. None: all.
    """
    lines = [f"  {key}: {_shorten(value, most)}\n" for key, value in settings.items()]
    return "".join(["data:\n", *lines]) if lines else ""


def _shorten(value: Any, most: int | None) -> str:
    if most is None or not isinstance(value, Mapping | list | tuple) or len(value) <= most:
        return _format_value(value)
    first = dict(list(value.items())[:most]) if isinstance(value, Mapping) else value[:most]
    return f"{_format_value(first)}  # and {len(value) - most:,} more: `atrous check` with `write` writes all of them"


def _format_value(value: Any) -> str:
    """Return a value as YAML in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_format_value(key)}: {_format_value(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_format_value, value)) + "]"
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) else escape_unprintable(json.dumps(value, ensure_ascii=False))
    return json.dumps(value)


def shorten_list(lines: Sequence[str]) -> str:
    """Join the first `LINES_SHOWN` lines and count the rest."""
    more = f", and {len(lines) - LINES_SHOWN:,} more" if len(lines) > LINES_SHOWN else ""
    return ", ".join(lines[:LINES_SHOWN]) + more
