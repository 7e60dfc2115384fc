"""Reading files of annotations, which come from elsewhere: whatever is wrong with one is a single kind of error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, fromstring

from atrous.core.errors import DataError
from atrous.core.system_errors import describe_reason, raise_shortage
from atrous.data.inventory import list_folder

HEAD_BYTES = 2**16
LONGEST_LABEL = 200


def find_files(source: Path, suffix: str) -> list[Path]:
    """Return the files with a suffix in a folder and its sub-folders, or the file itself; hidden ones are skipped.

    Args:
        source: A file or a folder.
        suffix: In lower case, with its dot.
    """
    files = map(Path, list_folder(source).foreign) if source.is_dir() else (source,)
    return [file for file in files if file.suffix.lower() == suffix and file.is_file()]


def read_head(file: Path) -> str:
    """Return the first characters of a text file; empty if it cannot be read."""
    try:
        with file.open("rb") as stream:
            return stream.read(HEAD_BYTES).decode("utf-8-sig", errors="replace").lstrip()
    except OSError:
        return ""


def iter_heads(source: Path, suffix: str) -> Iterator[str]:
    """Yield the first characters of a few files with a suffix.

    Args:
        source: A file or a folder.
        suffix: In lower case, with its dot.
    """
    for file in find_files(source, suffix)[:5]:
        yield read_head(file)


def read_text(file: Path) -> str:
    """Read a text file in UTF-8, with or without a mark at its beginning.

    Raises:
        DataError: It cannot be read, or is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8: {error.reason} at byte {error.start}", "Export it again.") from error
    except OSError as error:
        raise_shortage(error, str(file))
        raise DataError(f"{file}: cannot be read: {error.strerror}", "Check the file and its permissions.") from error


def read_json(file: Path) -> Any:
    """Read a JSON file.

    Raises:
        DataError: It cannot be read, or is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(read_text(file))
    except RecursionError as error:
        raise DataError(f"{file}: nested too deeply", "Export it again.") from error
    except ValueError as error:
        raise DataError(f"{file}: not JSON: {describe_reason(error)}", "Export it again.") from error


def read_xml(file: Path) -> Element:
    """Read an XML file. One that declares entities is refused: they can stand for other files, or for gigabytes.

    Raises:
        DataError: It cannot be read, or is not XML, or has a document type.
    """
    text = read_text(file)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{file}: has a document type, which can declare entities", "Export it again without one.")
    try:
        return fromstring(text)
    except (ParseError, ValueError) as error:
        raise DataError(f"{file}: not XML: {describe_reason(error)}", "Export it again.") from error


def read_label(value: Any) -> str:
    """Return the name of a class as it is in a file; empty if it is none."""
    text = str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text if text.isprintable() and len(text) <= LONGEST_LABEL else ""
