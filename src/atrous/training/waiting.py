"""Share of the time that a training waits for its images."""

from __future__ import annotations

from dataclasses import dataclass

REPORTED_STEPS = 50
"""Number of steps after which the share is logged; a shorter training logs it at its end."""
LARGE_SHARE = 0.2


@dataclass
class DataWait:
    """Duration of the steps so far, without the first, in which the workers start.

    Args:
        workers: Processes that read images.
        steps: Number of steps, including the first.
        waited_s: Seconds spent waiting for images.
        computed_s: Seconds spent computing.
    """

    workers: int
    steps: int = 0
    waited_s: float = 0.0
    computed_s: float = 0.0

    def add(self, waited_s: float, computed_s: float) -> None:
        """Add a step.

        Args:
            waited_s: Seconds spent waiting for images.
            computed_s: Seconds spent computing afterwards.
        """
        self.steps += 1
        if self.steps > 1:
            self.waited_s += waited_s
            self.computed_s += computed_s

    @property
    def share(self) -> float | None:
        """Waiting time / total time of the steps, in [0, 1]; None before the second step."""
        total = self.waited_s + self.computed_s
        return self.waited_s / total if total > 0 else None

    def describe(self) -> str:
        """Return a sentence with the share, and advice if it is large."""
        if self.share is None:
            return "waiting for data: not measured, the training had a single step"
        step_s = (self.waited_s + self.computed_s) / (self.steps - 1)
        words = f"waiting for data: {self.share:.0%} of {step_s:.2f} s per step"
        if self.share < LARGE_SHARE:
            return words
        return f"{words}; use more `workers` (now {self.workers}) or image files closer to the size of the crop"
