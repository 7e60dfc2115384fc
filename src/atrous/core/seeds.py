"""Random generators as a function of (seed, position), independent of earlier draws and of the worker.

The position is the number of a sample in the endless stream of a run, so order and augmentation need no saved state.
"""

from __future__ import annotations

import numpy as np

MAX_SEED = 2**32 - 1
"""Largest seed of a run: the seeds that follow from it, of any step of any run, are below 2**63, as PyTorch wants."""
_ORDER, _SAMPLE, _RARE = 0, 1, 2


def compute_step_seed(seed: int, step: int, rank: int = 0) -> int:
    """Return the seed of PyTorch's generator in one step, as for dropout.

    Args:
        seed: Seed of the run, <= MAX_SEED.
        step: Steps done, >= 0.
        rank: Number of the process, whose images are others than those of the other processes; below 1,000.
    """
    return seed * 1_000_003 + step + rank * 2**53


def sample_generator(seed: int, place: int) -> np.random.Generator:
    """Return the generator that augments one sample.

    Args:
        seed: Seed of the run.
        place: Position of the sample in the stream, >= 0.
    """
    return np.random.default_rng((seed, _SAMPLE, place))


def rare_generator(seed: int, place: int) -> np.random.Generator:
    """Return the generator that decides whether a sample is centred on a rare class, and on which.

    Args:
        seed: Seed of the run.
        place: Position of the sample in the stream, >= 0.
    """
    return np.random.default_rng((seed, _RARE, place))


def compute_epoch_order(seed: int, epoch: int, length: int) -> np.ndarray:
    """Return the order of the samples in one epoch.

    Args:
        seed: Seed of the run.
        epoch: Number of the epoch, >= 0.
        length: Number of samples.
    Shapes:
        out (N,) int64, a permutation of range(length).
    """
    return np.random.default_rng((seed, _ORDER, epoch)).permutation(length)
