"""What a check found, as plain data: `Finding`, and how findings are shown or stop a command."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from atrous.core.errors import DataError
from atrous.core.records import Note

Severity = Literal["error", "warning", "note"]
"""An error stops a training, a warning may cost accuracy, a note says what was done."""
FILES_KEPT = 3
"""Files that a finding names as data."""
LINES_SHOWN = 5
"""Items that a message lists before it counts the rest."""


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
    """

    code: str
    severity: Severity
    count: int
    message: str
    files: tuple[str, ...] = ()
    fix: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", tuple(self.files[:FILES_KEPT]))

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        return asdict(self) | {"files": list(self.files)}

    def to_note(self) -> Note:
        """Return the code and the message."""
        return Note(self.code, self.message)


def require_no_errors(findings: Iterable[Finding]) -> None:
    """Stop if there are findings of severity error.

    Raises:
        DataError: There are; the message and the hint cover all of them.
    """
    errors = [finding for finding in findings if finding.severity == "error"]
    if not errors:
        return
    lines = [finding.message for finding in errors]
    message = lines[0] if len(lines) == 1 else "\n  ".join(["the data cannot be used:", *lines])
    raise DataError(message, " ".join(dict.fromkeys(finding.fix for finding in errors if finding.fix)))


def shorten_list(lines: Sequence[str]) -> str:
    """Join the first `LINES_SHOWN` lines and count the rest."""
    more = f", and {len(lines) - LINES_SHOWN:,} more" if len(lines) > LINES_SHOWN else ""
    return ", ".join(lines[:LINES_SHOWN]) + more
