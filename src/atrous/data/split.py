"""Holding out a share of the images for validation so that both sides hold every class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np


def compute_stratified_split(contents: Sequence[Collection[int]], fraction: float, seed: int) -> list[int]:
    """Choose the images to hold out.

    Images are ordered by the rarest class that they hold, at random within one class, and taken at regular intervals,
    so each class is held out in proportion. The last training image of a class is never held out.

    Args:
        contents: The class ids in each image, (N,).
        fraction: Share to hold out, in [0, 1); at least one image unless it is 0.
        seed: Seed of the order.

    Returns:
        Indices of the held-out images, ascending.
    """
    left = Counter(number for ids in contents for number in set(ids))
    shuffled = np.random.default_rng(seed).permutation(len(contents)).tolist()
    order = sorted(
        shuffled, key=lambda index: min(((left[number], number) for number in contents[index]), default=(0, 0))
    )
    held_out: list[int] = []
    due = 0.5
    for index in order:
        due += fraction
        if due >= 1.0 and all(left[number] > 1 for number in set(contents[index])):
            held_out.append(index)
            left.subtract(set(contents[index]))
            due -= 1.0
    if not held_out and fraction > 0.0:
        held_out = order[-1:]
    return sorted(held_out)
