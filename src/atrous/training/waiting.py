"""How much of the time a training waits for its images, and what helps."""

from __future__ import annotations

from dataclasses import dataclass

REPORTED_STEPS = 50
"""After so many steps the share is said, or at the end of a shorter training."""
LARGE_SHARE = 0.2


@dataclass
class DataWait:
    """Seconds of the steps so far, the first left out, since workers start in it.

    Args:
        workers: Processes that read images.
    """

    workers: int
    steps: int = 0
    waited_s: float = 0.0
    computed_s: float = 0.0

    def add(self, waited_s: float, computed_s: float) -> None:
        """Count a step: what it waited for its images, and what it took after that."""
        self.steps += 1
        if self.steps > 1:
            self.waited_s += waited_s
            self.computed_s += computed_s

    @property
    def share(self) -> float | None:
        """Time waited / time of the steps, in [0, 1]; None before the second step."""
        total = self.waited_s + self.computed_s
        return self.waited_s / total if total > 0 else None

    def describe(self) -> str:
        """Say the share, and what to do where it is large."""
        if self.share is None:
            return "waiting for data: not measured in one step"
        words = (
            f"waiting for data: {self.share:.0%} of {(self.waited_s + self.computed_s) / (self.steps - 1):.2f} s a step"
        )
        if self.share < LARGE_SHARE:
            return words
        return f"{words}; more --workers (now {self.workers}) or image files nearer to the crop's size would help"
