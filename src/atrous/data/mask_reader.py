"""From what mask files store to ids: numbers as they are or by a map, colours by a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from atrous.core.errors import ConfigError
from atrous.core.labels import LabelSpace
from atrous.data.facts_cache import FactsCache, MaskFacts
from atrous.images.decode import load_mask

_TABLE_LENGTH = 65536


@dataclass(frozen=True)
class MaskReader:
    """Reads mask files as ids.

    Args:
        label_map: The id of each number in the files that is not an id itself.
    """

    label_map: Mapping[int, int] = field(default_factory=dict)

    def read(self, path: Path) -> np.ndarray:
        """Return the ids of a mask, (H, W) integers; a number that `label_map` does not name is an id itself.

        Raises:
            DataError: The file cannot be read as a mask.
        """
        return self.convert(load_mask(path))

    def convert(self, numbers: np.ndarray) -> np.ndarray:
        """Turn the numbers in a file into ids.

        Shapes:
            in (H, W) integers; out (H, W) integers.
        """
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

    def read_facts(self, path: Path, cache: FactsCache) -> MaskFacts:
        """Return what a mask holds, with the pixels of each id.

        Args:
            path: The file.
            cache: Facts of files that were read before.
        Raises:
            DataError: The file cannot be read as a mask.
        """
        facts = cache.read_mask(path)
        counts: dict[int, int] = {}
        for number, pixels in facts.counts.items():
            new = self.label_map.get(number, number)
            counts[new] = counts.get(new, 0) + pixels
        return MaskFacts(facts.size, dict(sorted(counts.items())), facts.mode)

    def keep_declared(self, ids: Collection[int]) -> set[int]:
        """Return those of the ids in some masks that may be classes where none is named.

        With a map they are what numbers are mapped to, and 0: another number is a mistake rather than a class.
        """
        return {*ids} & {0, *self.label_map.values()} if self.label_map else {*ids}

    def require_known(self, space: LabelSpace) -> None:
        """Refuse a map to ids that the data do not have.

        Raises:
            ConfigError: It has such an id.
        """
        for number, new in self.label_map.items():
            if new not in space.ids and new not in space.ignored_ids:
                raise ConfigError(
                    f"data.label_map: {number} becomes {new}, which is neither a class nor ignored",
                    f"Name {new} in data.classes, or put it into data.ignore.",
                )


PLAIN = MaskReader()
"""The numbers in the files are the ids."""
