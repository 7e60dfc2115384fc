"""Holding out a share of the images for validation so that both sides hold every class."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass

import numpy as np


def compute_stratified_split(
    contents: Sequence[Collection[int]], fraction: float, seed: int, groups: Sequence[Hashable] | None = None
) -> list[int]:
    """Choose the images to hold out.

    Groups are ordered by the rarest class that they hold, at random within one class, and taken at regular intervals,
    so each class is held out in proportion. The last training group of a class is never held out.

    Args:
        contents: The class ids in each image, (N,).
        fraction: Share to hold out, in [0, 1); at least one group unless it is 0.
        seed: Seed of the order.
        groups: The group of each image, (N,): images of one group stay on one side. Default: each is its own.

    Returns:
        Indices of the held-out images, ascending.
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for index in range(len(contents)):
        members[index if groups is None else groups[index]].append(index)
    together = list(members.values())
    held = [set().union(*(contents[index] for index in group)) for group in together]
    left = Counter(number for ids in held for number in ids)
    shuffled = np.random.default_rng(seed).permutation(len(together)).tolist()
    order = sorted(shuffled, key=lambda group: min(((left[number], number) for number in held[group]), default=(0, 0)))
    chosen: list[int] = []
    due = 0.5
    for group in order:
        size = len(together[group])
        due += fraction * size
        if due >= (size + 1) / 2 and all(left[number] > 1 for number in held[group]):
            chosen.append(group)
            left.subtract(held[group])
            due -= size
    if not chosen and order and fraction > 0.0:
        chosen = [min(reversed(order), key=lambda group: len(together[group]))]
    return sorted(index for group in chosen for index in together[group])


def find_group(expression: re.Pattern[str], key: str, splits: Collection[str] = ()) -> str | None:
    """Return what the first group of an expression finds in the name of an image; None if it finds nothing.

    Args:
        expression: With at least one group.
        key: Name of the image: its path without suffix.
        splits: Names of splits; a key that begins with the folder of one is searched without it.
    """
    first, _, rest = key.partition("/")
    found = expression.search(rest if rest and first in splits else key)
    return found[1] if found else None


@dataclass(frozen=True)
class Grouping:
    """How images that resemble each other, such as those of a clip or a scene, are found by their names.

    Args:
        expression: What `find_group` takes; None: images have no groups.
        splits: Names of splits, of which keys may begin with a folder.
    """

    expression: str | None = None
    splits: tuple[str, ...] = ()

    def find(self, key: str) -> str | None:
        """Return the group of an image; None for an image that has none."""
        return None if self.expression is None else find_group(re.compile(self.expression), key, self.splits)


NO_GROUPS = Grouping()


def join_groups(names: Sequence[Hashable | None], copies: Sequence[Hashable | None]) -> list[int]:
    """Return the group of each image, where images of one name and copies of one file are together.

    Args:
        names: The name of each image's group, (N,); None for an image that has none.
        copies: What copies of one file have in common, (N,); None for an image without a copy.
    """
    roots = list(range(len(names)))

    def find(index: int) -> int:
        while roots[index] != index:
            roots[index] = roots[roots[index]]
            index = roots[index]
        return index

    for marks in (names, copies):
        seen: dict[Hashable, int] = {}
        for index, mark in enumerate(marks):
            if mark is not None:
                roots[find(index)] = find(seen.setdefault(mark, index))
    return [find(index) for index in range(len(names))]
