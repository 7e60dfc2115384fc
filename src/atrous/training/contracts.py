"""The contract of a tracker, and what it receives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

Status = Literal["success", "aborted", "failed"]
"""How a training ended."""


@dataclass(frozen=True)
class Point:
    """Values at one step.

    Args:
        step: Optimiser steps done.
        time_s: Seconds since 1970.
        values: By name, such as "train/loss".
    """

    step: int
    time_s: float
    values: Mapping[str, float]


class Tracker(Protocol):
    """A run in a tracker. Its methods raise what the tracker's package raises."""

    run_id: str | None
    """Identifies the run in the tracker, so that a resumed training continues it."""
    place: str
    """The address of the records, or the command that shows them."""

    def log_settings(self, settings: Mapping[str, Any]) -> None:
        """Record the settings, as nested sections."""

    def log_points(self, points: Sequence[Point]) -> None:
        """Record values."""

    def log_images(self, images: Mapping[str, np.ndarray], step: int) -> None:
        """Record images.

        Args:
            images: By the key of their sample, each (H, W, 3) uint8.
            step: Optimiser steps done.
        """

    def log_model(self, path: Path) -> None:
        """Store a model file, if this tracker stores files."""

    def close(self, status: Status) -> None:
        """End the run, unless the caller opened it before the training."""
