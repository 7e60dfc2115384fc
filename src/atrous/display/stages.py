"""Stages of long work as text: how far they are, and how long they will take."""

from __future__ import annotations

from atrous.core.records import Progress


class StageClock:
    """Estimates the remaining time of stages, each from its own beginning."""

    def __init__(self) -> None:
        self._starts: dict[str, tuple[float, int]] = {}

    def describe(self, progress: Progress, now: float) -> str:
        """Return the progress of a stage as text: "training 131 of 200, 69 s left, loss 0.41".

        Args:
            progress: The progress.
            now: The time in seconds, from any zero.
        """
        began, first = self._starts.setdefault(progress.stage, (now, progress.done))
        if progress.done == progress.total:
            del self._starts[progress.stage]  # a later stage of this name starts again
        words = [f"{progress.stage} {progress.done}" + (f" of {progress.total}" if progress.total else "")]
        if progress.total and progress.done > first:
            left = (now - began) / (progress.done - first) * (progress.total - progress.done)
            words.append(f"{describe_seconds(left)} left")
        return ", ".join([*words, progress.note] if progress.note else words)


def describe_seconds(seconds: float) -> str:
    """Format a duration in one or two units: "45 s", "4 min", "1 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
