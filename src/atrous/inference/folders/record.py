"""The record of a folder of predictions: which files were written there, from which images, with which settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from atrous.core.errors import UsageError
from atrous.core.files import Stamp, load_json, read_stamp, save_json
from atrous.core.findings import shorten_list
from atrous.core.records import Note
from atrous.core.words import describe_count

RECORD_NAME = "predictions.json"
JOURNAL_NAME = ".predictions.jsonl"
"""Lines that are not in predictions.json yet: those of a run that is alive or was killed, and of `Prediction.save`."""

_DAMAGE = (ValueError, TypeError, KeyError, IndexError, AttributeError)
"""What reading JSON of another form raises."""


class FolderRecord:
    """What is known of the files in a folder of predictions.

    A file may be replaced if the record lists it for the same image and it has not changed since. Files are listed just
    before they are written and again when they are, so the record is right however a process ends.

    Args:
        folder: The folder; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def _known(self) -> _Known:
        return _read_known(self.folder)

    @property
    def notes(self) -> list[dict[str, str]]:
        """The notes that predictions.json has."""
        return self._known.notes

    @property
    def backend(self) -> dict[str, Any] | None:
        """How predictions.json says that its backend was chosen; None if it does not."""
        return self._known.backend

    def require_free(self, wanted: Mapping[str, Sequence[str]]) -> None:
        """Refuse to replace files that atrous did not write, that were changed afterwards, or of another image.

        Args:
            wanted: By image, the files to write, below the folder. predictions.json is always looked at.
        Raises:
            UsageError: There is such a file.
        """
        taken = [words for image, names in wanted.items() for words in self._describe_taken(image, names)]
        taken += [] if self._known.is_ours else [RECORD_NAME]
        if taken:
            raise UsageError(
                f"{self.folder} holds {describe_count(len(taken), 'file')} that would be lost: {shorten_list(taken)}",
                "Choose another `out` folder, or replace them: `overwrite=True`.",
            )

    def _describe_taken(self, image: str, names: Sequence[str]) -> Iterator[str]:
        for name in names:
            found = read_stamp(self.folder / name, follow_links=False)
            if found is None:
                continue
            owner = self._known.owners.get(name, image)
            if name not in self._known.written:
                yield f"{name} (not written by atrous)"
            elif _was_edited(self._known.written[name], found):
                yield f"{name} (changed since atrous wrote it)"
            elif not _is_same(owner, image):
                yield f"{name} (of {owner})"

    def find_done(self, names: Sequence[str], image: Path, settings: str) -> dict[str, Any] | None:
        """Return the row of an image that need not be labelled again.

        Args:
            names: Files wanted of it, that of its labels first.
            image: The image.
            settings: Digest of the settings.
        Returns: The row, if the image and the settings are as they were and all files exist, edited or not.
        """
        row = self._known.rows.get(names[0])
        if row is None or row.get("settings") != settings or row.get("input_stamp") != read_stamp(image):
            return None
        has_all = all(name in row["files"] and (self.folder / name).is_file() for name in names)
        return row if has_all and _is_same(row["input"], str(image.absolute())) else None

    def claim(self, names: Sequence[str]) -> None:
        """Note that files are about to be written, so that a killed process leaves none that is not listed."""
        self._append({"claim": list(names)})

    def add(self, row: Mapping[str, Any]) -> None:
        """Note an image whose files are written.

        Args:
            row: What is known of the image: input, files (that of the labels first) and more.
        """
        written = {name: read_stamp(self.folder / name, follow_links=False) for name in row["files"]}
        self._append({"row": row, "written": written})

    def add_files(self, names: Sequence[str]) -> None:
        """Note files that are written and belong to no single image.

        Args:
            names: Their names below the folder.
        """
        self._append({"written": {name: read_stamp(self.folder / name, follow_links=False) for name in names}})

    def list_outdated(self, row: Mapping[str, Any]) -> list[Path]:
        """Return the files that an image had before and will not have: they do not fit its new labels.

        Args:
            row: What is known of the image now.
        """
        names = row["files"]
        before = self._known.rows.get(names[0], {}).get("files", ())
        own = [name for name in before if name not in names and not [*self._describe_taken(row["input"], [name])]]
        return [self.folder / name for name in own]

    def save(self, header: Mapping[str, Any], skipped: Mapping[str, str]) -> None:
        """Write everything to predictions.json.

        Args:
            header: Settings of the latest run.
            skipped: Its images that could not be read, with the reasons.
        """
        now = FolderRecord(self.folder)  # `Prediction.save` may have added lines meanwhile
        done = {row["input"] for row in now._known.rows.values()}
        left = {image: reason for image, reason in self._known.skipped.items() if image not in done} | dict(skipped)
        stamps = {
            name: (stamp, read_stamp(self.folder / name, follow_links=False))
            for name, stamp in now._known.written.items()
        }
        content = {
            **header,
            "done": list(now._known.rows.values()),
            "skipped": [{"input": image, "reason": reason} for image, reason in left.items()],
            "written": {name: stamp or found for name, (stamp, found) in stamps.items() if found},
        }
        save_json(self.folder / RECORD_NAME, content)
        (self.folder / JOURNAL_NAME).unlink(missing_ok=True)

    def _append(self, line: Mapping[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / JOURNAL_NAME).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


@dataclass
class _Known:
    """What predictions.json and the journal say.

    Args:
        rows: Rows by the file of the labels.
        skipped: Reasons by image.
        written: Files with their stamps; None: of any content.
        notes: Notes of the call that wrote predictions.json.
        backend: How the backend of that call was chosen, if it was not named.
        is_ours: Whether predictions.json may be replaced: there is none, or it is one of ours.
    """

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    written: dict[str, Stamp | None] = field(default_factory=dict)
    notes: list[dict[str, str]] = field(default_factory=list)
    backend: dict[str, Any] | None = None
    is_ours: bool = True

    @cached_property
    def owners(self) -> dict[str, str]:
        """The image of each file."""
        return {name: row["input"] for row in self.rows.values() for name in row["files"]}


def _read_known(folder: Path) -> _Known:
    known = _read_record(folder / RECORD_NAME)
    try:
        text = (folder / JOURNAL_NAME).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return known
    for line in text.splitlines():
        with suppress(*_DAMAGE):  # a killed process leaves its last line unfinished
            content = json.loads(line)
            known.written |= dict.fromkeys(content.get("claim", ())) | content.get("written", {})
            if "row" in content:
                name = content["row"]["files"][0]
                known.rows.pop(name, None)
                known.rows[name] = content["row"]
    return known


def _read_record(path: Path) -> _Known:
    if read_stamp(path, follow_links=False) is None:
        return _Known()
    try:
        content = load_json(path)
        rows = {row["files"][0]: row for row in content["done"]}
        written = {str(name): None for row in rows.values() for name in row["files"] if row["input"]}
        skipped = {row["input"]: row["reason"] for row in content["skipped"]}
        notes = [Note(**note).to_json() for note in content.get("notes", ())]
        backend = content.get("backend")
        is_known = isinstance(backend, dict)
        return _Known(rows, skipped, written | content.get("written", {}), notes, backend if is_known else None)
    except (OSError, *_DAMAGE):
        return _Known(is_ours=False)


def _was_edited(written: Stamp | None, found: Stamp) -> bool:
    """Return whether a file was edited: its time of status does not count, which copies and permissions move.

    Args:
        written: Its stamp when it was written; None: not known.
        found: Its stamp now.
    """
    return written is not None and written[:2] != found[:2]


def _is_same(one: str, other: str) -> bool:
    """Return whether two images, given by their paths or digests, are the same."""
    return one == other or Path(one).resolve() == Path(other).resolve()
