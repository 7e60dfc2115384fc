"""Tables of classes that annotation tools write beside the masks: `labelmap.txt`, and CSV files with colours."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from atrous.core.errors import DataError

Colour = tuple[int, int, int]
CLASSES_NAME = "_classes.csv"
"""Name of the file in which Roboflow names the values of masks."""

_CHANNELS = ("r", "g", "b")
_FORM = "Write a line `name:red,green,blue::` for each class, or a CSV file with the columns name, r, g, b."


@dataclass(frozen=True)
class ClassTable:
    """The classes of a table, in its order: the first has the id 0.

    Args:
        names: Name of each id.
        colours: Id of each colour.
    """

    names: Mapping[int, str]
    colours: Mapping[Colour, int]


def read_class_table(path: Path) -> ClassTable:
    """Read a table of classes and their colours.

    Args:
        path: A `labelmap.txt` as CVAT and VOC have it, with lines `name:red,green,blue:parts:actions`; or a CSV file
            whose header names the columns of red, green and blue, and whose first other column holds the names.
    Raises:
        DataError: The file cannot be read, has another form, or has one name or colour twice.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}", "data.colours names a file of the data."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text", "Save it as UTF-8.") from error
    rows = _read_csv(path, text) if path.suffix.lower() == ".csv" else _read_labelmap(path, text)
    for word, values in (("name", [name for name, _ in rows]), ("colour", [str(colour) for _, colour in rows])):
        doubled = [value for value in dict.fromkeys(values) if values.count(value) > 1]
        if doubled:
            raise DataError(f"{path}: the {word} {doubled[0]} occurs twice", f"Give each class a {word} of its own.")
    if not rows:
        raise DataError(f"{path}: no class in it", _FORM)
    return ClassTable(
        {number: name for number, (name, _) in enumerate(rows)},
        {colour: number for number, (_, colour) in enumerate(rows)},
    )


def read_class_names(path: Path) -> dict[int, str]:
    """Read the class names of a CSV file with the columns "Pixel Value" and "Class", as Roboflow writes it.

    Raises:
        DataError: The file cannot be read or has another form.
    """
    try:
        header, *rows = csv.reader(path.read_text(encoding="utf-8-sig").splitlines(), skipinitialspace=True)
        number, name = (header.index(word) for word in ("Pixel Value", "Class"))
        return {int(row[number]): row[name].strip() for row in rows if row}
    except (OSError, ValueError, IndexError) as error:
        message = f"{path}: cannot be read as the names of the values in masks"
        raise DataError(
            message, "Its columns are Pixel Value and Class; or name the classes in data.classes."
        ) from error


def _read_labelmap(path: Path, text: str) -> list[tuple[str, Colour]]:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            name, _, rest = line.partition(":")
            rows.append((name.strip(), _parse_colour(f"{path}:{number}", rest.partition(":")[0].split(","))))
    return rows


def _read_csv(path: Path, text: str) -> list[tuple[str, Colour]]:
    header, *lines = list(csv.reader(text.splitlines(), skipinitialspace=True)) or [[]]
    columns = {name.strip().lower(): place for place, name in enumerate(header)}
    places = [columns[name] for word in _CHANNELS for name in columns if name in (word, _WORDS[word])]
    others = [place for place in columns.values() if place not in places]
    if len(places) != len(_CHANNELS) or not others:
        raise DataError(f"{path}:1: its columns are {', '.join(header) or 'none'}", _FORM)
    rows = []
    for number, line in enumerate(lines, start=2):
        if any(map(str.strip, line)):
            cells = [line[place] if place < len(line) else "" for place in (others[0], *places)]
            rows.append((cells[0].strip(), _parse_colour(f"{path}:{number}", cells[1:])))
    return rows


_WORDS = {"r": "red", "g": "green", "b": "blue"}


def _parse_colour(place: str, texts: Sequence[str]) -> Colour:
    try:
        red, green, blue = (int(text) for text in texts)
    except ValueError:
        red = -1
    if red < 0 or not all(0 <= value <= 255 for value in (red, green, blue)):
        raise DataError(f"{place}: {','.join(texts)!r} is no colour of three numbers from 0 to 255", _FORM)
    return red, green, blue
