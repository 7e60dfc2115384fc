"""What one mask or image holds."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atrous.core.errors import DataError
from atrous.images.decode import load_mask


@dataclass(frozen=True)
class MaskContent:
    """What one mask holds.

    Args:
        size: Height and width.
        counts: Pixels by id.
    """

    size: tuple[int, int]
    counts: dict[int, int]


def load_content(path: Path) -> MaskContent:
    """Read what a mask's file holds; a file that has not changed is decoded once in a process.

    Raises:
        DataError: The file cannot be read as a mask.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise DataError(f"{path}: no such file") from error
    return _load_content(path, status.st_mtime_ns, status.st_size)


@functools.cache  # a few ids a mask; stamp and size stand for the file's content
def _load_content(path: Path, modified_ns: int, num_bytes: int) -> MaskContent:
    return compute_content(load_mask(path))


def compute_content(mask: np.ndarray) -> MaskContent:
    """Count the pixels of each id in a mask (H, W)."""
    counts = np.bincount(mask.ravel())
    ids = np.flatnonzero(counts)
    return MaskContent((mask.shape[0], mask.shape[1]), dict(zip(ids.tolist(), counts[ids].tolist(), strict=True)))
