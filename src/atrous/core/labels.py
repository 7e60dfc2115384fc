"""Which id in a mask means which class. The ignore index is defined here alone."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from atrous.core.errors import DataError
from atrous.core.findings import shorten_list
from atrous.core.words import describe_count

IGNORE_INDEX = 65535
"""The index of a pixel that is neither trained on nor scored; above every class index. Labels are int32 or uint16."""

USUAL_VOID_ID = 255
"""The id of void in most data sets."""
_UNKNOWN = 255
"""An id that is neither a class nor ignored, in bytes where others are an index + 1, and 0 is ignored."""
VOID_COLOUR = (224, 224, 192)


def name_unnamed(number: int) -> str:
    """Return the name, made of its id, of a class for which none was given."""
    return f"class {number}"


def has_names(names: Iterable[str]) -> bool:
    """Return whether any class was given a name, other than that of `name_unnamed`.

    Args:
        names: Names of classes; none are no names.
    """
    return any(re.fullmatch(r"class \d+", name) is None for name in names)


def build_palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """Return `count` colours, easy to tell apart; the first is black, for background."""
    colours = [(0, 0, 0)]
    for number in range(1, count):
        hue = (number * 0.61803398875) % 1.0  # the golden angle: neighbours in number are far apart in hue
        value = (0.95, 0.7, 0.85)[number % 3]
        red, green, blue = colorsys.hsv_to_rgb(hue, (0.75, 0.9, 0.55)[number // 3 % 3], value)
        colours.append((round(red * 255), round(green * 255), round(blue * 255)))
    return tuple(colours[:count])


@dataclass(frozen=True)
class LabelSpace:
    """The classes of a data set or a model, and the ids that stand for them in mask files.

    Inside, a class is its *index* 0..K-1; in files it is its *id*, which may be any number.

    Args:
        names: Class names by index, (K,).
        ids: The id of each class in mask files, (K,). Default: 0 to K - 1.
        colours: RGB of each class, 0 to 255, (K,). Default: `build_palette`.
        ignored_ids: Ids that are known and neither trained on nor scored; in the masks they may be any whole number.
    Raises:
        DataError: Fields of unequal length, a doubled name or id, or an id that is both a class and ignored.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...] = ()
    colours: tuple[tuple[int, int, int], ...] = ()
    ignored_ids: tuple[int, ...] = field(default=(255,))

    def __post_init__(self) -> None:
        if not self.ids:
            object.__setattr__(self, "ids", tuple(range(len(self.names))))
        if not self.colours:
            object.__setattr__(self, "colours", build_palette(len(self.names)))
        for name in ("ids", "colours"):
            if len(getattr(self, name)) != len(self.names):
                raise DataError(
                    f"{describe_count(len(self.names), 'class name')} but {len(getattr(self, name))} {name}"
                )
        for values, word in ((self.names, "name"), (self.ids, "id")):
            doubled = sorted({value for value in values if values.count(value) > 1}, key=str)
            if doubled:
                raise DataError(f"class {word} {doubled[0]!r} occurs twice")
        both = sorted(set(self.ids) & set(self.ignored_ids))
        if both:
            raise DataError(f"id {both[0]} is both the class {self.names[self.ids.index(both[0])]!r} and ignored")
        if any(not 0 <= number < IGNORE_INDEX for number in self.ids):
            raise DataError("class ids lie between 0 and 65534")

    @property
    def void_id(self) -> int:
        """The id that written labels have where a pixel has no class.

        255 unless that is a class: then the largest id below it that is neither a class nor ignored in the data, where
        it has a meaning of its own; then the smallest such id above 255.

        Raises:
            DataError: Every id is a class or ignored.
        """
        taken = {*self.ids, *(number for number in self.ignored_ids if number != USUAL_VOID_ID)}
        candidates = [*range(USUAL_VOID_ID, -1, -1), *range(USUAL_VOID_ID + 1, IGNORE_INDEX)]
        free: int | None = next((number for number in candidates if number not in taken), None)
        if free is not None:
            return free
        raise DataError("every id is a class or ignored, so none is left for void", "Ignore fewer ids.")

    @property
    def num_classes(self) -> int:
        """Scored classes, the ignore index not counted."""
        return len(self.names)

    def paint(self, colours: Mapping[int, tuple[int, int, int]]) -> LabelSpace:
        """Return the same classes with other colours.

        Args:
            colours: RGB of some of the classes, 0 to 255, by id; the others keep theirs.
        """
        own = zip(self.ids, self.colours, strict=True)
        return replace(self, colours=tuple(colours.get(number, colour) for number, colour in own))

    def index_of(self, name: str) -> int:
        """Return the index of a class by its name."""
        return self.names.index(name)

    def encode(self, mask: np.ndarray) -> np.ndarray:
        """Turn a mask of ids into class indices.

        Shapes:
            in (H, W) any integers; out (H, W) uint16, IGNORE_INDEX where ignored.
        Raises:
            DataError: The mask holds an id that is neither a class nor ignored; the message has ids and pixel counts.
        """
        if mask.dtype == np.uint8 and self.num_classes < _UNKNOWN:  # the usual mask, in a third of the time
            codes = np.frombuffer(mask.tobytes().translate(self._codes), np.uint8).reshape(mask.shape)
            if codes.max(initial=0) < _UNKNOWN:
                labels = codes.astype(np.uint16)
                labels -= 1  # 0 wraps around to IGNORE_INDEX
                return labels
        table = self._build_table()
        if mask.dtype in (np.uint8, np.uint16):
            indices = table[mask]
        else:
            is_outside = (mask < 0) | (mask > IGNORE_INDEX)
            indices = table[np.where(is_outside, 0, mask)]
            indices[is_outside] = np.where(np.isin(mask[is_outside], self.ignored_ids), IGNORE_INDEX, -1)
        if indices.min(initial=0) < 0:
            ids, counts = np.unique(mask[indices < 0], return_counts=True)
            found = shorten_list(
                [f"{i} ({describe_count(n, 'pixel')})" for i, n in zip(ids.tolist(), counts.tolist(), strict=True)]
            )
            raise DataError(
                f"ids outside the classes: {found}",
                f"Classes have the ids {_shorten(self.ids)}; ignored are {_shorten(self.ignored_ids)}.",
            )
        return np.asarray(indices, dtype=np.uint16)

    def _build_table(self) -> np.ndarray:
        """Return the index of each id from 0 to 65535, int32, -1 where there is none."""
        table = np.full(IGNORE_INDEX + 1, -1, dtype=np.int32)
        table[[number for number in self.ignored_ids if 0 <= number <= IGNORE_INDEX]] = IGNORE_INDEX
        table[list(self.ids)] = np.arange(self.num_classes)
        return table

    @cached_property
    def _codes(self) -> bytes:
        """The index + 1 of each id from 0 to 255 as a byte: 0 where ignored, `_UNKNOWN` where there is none."""
        table = self._build_table()[:256]
        return np.where(table < 0, _UNKNOWN, (table + 1) % (IGNORE_INDEX + 1)).astype(np.uint8).tobytes()

    def decode(self, indices: np.ndarray, is_void: np.ndarray | None = None) -> np.ndarray:
        """Turn class indices into ids.

        Args:
            indices: Class indices, 0 to K - 1.
            is_void: Pixels that get `void_id` instead, if any can.
        Shapes:
            in (H, W) integers and (H, W) bool; out (H, W), uint8 if all ids that can occur are below 256, else uint16.
        """
        largest = max(self.ids) if is_void is None else max(*self.ids, self.void_id)
        table = np.asarray(self.ids, dtype=np.uint8 if largest < 256 else np.uint16)
        labels = np.take(table, indices)
        if is_void is not None:
            labels[is_void] = self.void_id
        return labels

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "names": list(self.names),
            "ids": list(self.ids),
            "colours": [list(colour) for colour in self.colours],
            "ignored_ids": list(self.ignored_ids),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LabelSpace:
        """Build a label space from `to_json`'s form."""
        return cls(
            names=tuple(value["names"]),
            ids=tuple(value["ids"]),
            colours=tuple((int(r), int(g), int(b)) for r, g, b in value["colours"]),
            ignored_ids=tuple(value["ignored_ids"]),
        )


def _shorten(ids: Sequence[int]) -> str:
    if not ids:
        return "none"
    ordered = sorted(ids)
    if len(ordered) > 2 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"{ordered[0]} to {ordered[-1]}"
    return ", ".join(str(number) for number in ordered)
