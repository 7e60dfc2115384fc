"""From what mask files store to ids: numbers as they are or by a map, colours by a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from atrous.core.errors import ConfigError, DataError
from atrous.core.findings import shorten_list
from atrous.core.labels import LabelSpace
from atrous.core.words import describe_count
from atrous.data.class_tables import Colour
from atrous.data.facts_cache import NOTHING, FactsCache, MaskFacts
from atrous.images.decode import load_mask, load_mask_colours
from atrous.images.windows import Window, load_mask_window

_TABLE_LENGTH = 65536


@dataclass(frozen=True)
class MaskReader:
    """Reads mask files as ids.

    Args:
        label_map: The id of each number in the files that is not an id itself.
        colours: The id of each colour; then masks are read by their colours alone. None: by their numbers.
    """

    label_map: Mapping[int, int] = field(default_factory=dict)
    colours: Mapping[Colour, int] | None = None

    def read(self, path: Path, window: Window | None = None) -> np.ndarray:
        """Return the ids of a mask, (H, W) integers; a number that `label_map` does not name is an id itself.

        Args:
            path: The file.
            window: The part of it to read. Default: the whole.
        Raises:
            DataError: The file cannot be read as a mask, or has a colour that is not in the table.
        """
        in_colours = self.colours is not None
        if window is not None:
            values = load_mask_window(path, window, in_colours=in_colours).values
        else:
            values = load_mask_colours(path) if in_colours else load_mask(path)
        return self._map_colours(values, path) if in_colours else self._map_numbers(values)

    def read_facts(self, path: Path, cache: FactsCache, window: Window | None = None) -> MaskFacts:
        """Return what a mask holds, with the pixels of each id.

        Args:
            path: The file.
            cache: Facts of files that were read before.
            window: The part of it to read. Default: the whole.
        Raises:
            DataError: The file cannot be read as a mask, or has a colour that is not in the table.
        """
        if self.colours is None:
            facts, ids = cache.read_mask(path, window), self.label_map
        else:
            facts, ids = cache.read_mask_colours(path, window), self._pack_colours()
            _refuse_unknown({packed: n for packed, n in facts.counts.items() if packed not in ids}, path)
        if not ids:
            return facts
        counts, solid = _map_counts(facts.counts, ids), _map_counts(facts.solid, ids)
        return replace(facts, counts=counts, solid=solid, colours=NOTHING, palette="")

    def keep_declared(self, ids: Collection[int]) -> set[int]:
        """Return those of the ids in some masks that may be classes where none is named.

        With a map they are what numbers are mapped to, and 0: another number is a mistake rather than a class.
        """
        return {*ids} & {0, *self.label_map.values()} if self.label_map else {*ids}

    def require_known(self, space: LabelSpace) -> None:
        """Refuse a map or a table with ids that the data do not have.

        Raises:
            ConfigError: It has such an id.
        """
        key, targets = ("colours", self.colours) if self.colours is not None else ("label_map", self.label_map)
        for value, new in targets.items():
            if new not in space.ids and new not in space.ignored_ids:
                raise ConfigError(
                    f"data.{key}: {value} becomes {new}, which is neither a class nor ignored",
                    f"Name {new} in data.classes, or put it into data.ignore.",
                )

    def _map_numbers(self, numbers: np.ndarray) -> np.ndarray:
        if not self.label_map:
            return numbers
        if numbers.dtype in (np.uint8, np.uint16):
            table = np.arange(_TABLE_LENGTH, dtype=np.uint16)
            inside = {number: new for number, new in self.label_map.items() if 0 <= number < _TABLE_LENGTH}
            table[list(inside)] = list(inside.values())
            return np.asarray(table[numbers])
        ids = numbers.astype(np.int64)
        for number, new in self.label_map.items():
            ids[numbers == number] = new
        return ids

    def _map_colours(self, packed: np.ndarray, path: Path) -> np.ndarray:
        table = self._pack_colours()
        known = np.array(sorted(table), dtype=np.uint32)
        places = np.minimum(np.searchsorted(known, packed), len(known) - 1)
        is_unknown = known[places] != packed
        if is_unknown.any():
            colours, counts = np.unique(packed[is_unknown], return_counts=True)
            _refuse_unknown(dict(zip(colours.tolist(), counts.tolist(), strict=True)), path)
        return np.array([table[number] for number in known.tolist()], dtype=np.uint16)[places]

    def _pack_colours(self) -> dict[int, int]:
        return {red << 16 | green << 8 | blue: new for (red, green, blue), new in (self.colours or {}).items()}


def _map_counts(counts: Mapping[int, int], ids: Mapping[int, int]) -> dict[int, int]:
    mapped: dict[int, int] = {}
    for number, pixels in counts.items():
        new = ids.get(number, number)
        mapped[new] = mapped.get(new, 0) + pixels
    return dict(sorted(mapped.items()))


def _refuse_unknown(counts: Mapping[int, int], path: Path) -> None:
    if counts:
        lines = [
            f"({packed >> 16}, {packed >> 8 & 255}, {packed & 255}) {describe_count(counts[packed], 'pixel')}"
            for packed in sorted(counts, key=lambda number: -counts[number])
        ]
        raise DataError(
            f"{path}: {describe_count(len(lines), 'colour')} that data.colours does not name: {shorten_list(lines)}",
            "Name each with its id; blended colours at edges come from resizing or from JPEG: export the masks again.",
            "colour-mask",
        )


PLAIN = MaskReader()
"""The numbers in the files are the ids."""
