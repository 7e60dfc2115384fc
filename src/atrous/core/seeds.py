"""Randomness as a function: (seed, place) gives a generator, whatever ran before and on whichever worker.

The place is a sample's number in the run's endless stream, so order and augmentation need no state to resume.
"""

from __future__ import annotations

import numpy as np

_ORDER, _SAMPLE = 0, 1


def sample_generator(seed: int, place: int) -> np.random.Generator:
    """Return the generator that augments the sample at `place` (>= 0) of the stream of `seed`."""
    return np.random.default_rng((seed, _SAMPLE, place))


def compute_epoch_order(seed: int, epoch: int, length: int) -> np.ndarray:
    """Return the order of one pass: a permutation of range(length), (length,) int64."""
    return np.random.default_rng((seed, _ORDER, epoch)).permutation(length)
