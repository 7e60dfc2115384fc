"""The length of a training: epochs, iterations or minutes become a number of steps, once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from atrous.core.errors import ConfigError
from atrous.core.words import describe_count

FINISH_S = 12.0
"""Seconds reserved for the work after the last pass over the validation data: examples, plots and the report."""
TIMING_MARGIN = 0.96
"""Share of the remaining time that is planned for; the rest is for machines that slow down."""


@dataclass(frozen=True)
class Timing:
    """Durations measured before the first step.

    Args:
        step_s: Seconds of an optimiser step.
        validation_s: Seconds of one pass over the validation data.
    """

    step_s: float
    validation_s: float


@dataclass(frozen=True)
class Plan:
    """The length of a run; fixed before the first step and stored, so that a resumed run keeps it.

    Args:
        total_steps: Optimiser steps.
        validation_steps: After how many steps the model is validated, ascending; the last is `total_steps`.
        samples_per_step: Images in an optimiser step, over all processes.
        steps_per_epoch: Optimiser steps in one pass over the data; a fraction.
        extended: For each time that the run was extended, the steps done by then, and the total until then.
    """

    total_steps: int
    validation_steps: tuple[int, ...]
    samples_per_step: int
    steps_per_epoch: float
    extended: tuple[tuple[int, int], ...] = ()

    def find_total(self, step: int) -> int:
        """Return the total that was planned when the step after `step` steps was made."""
        return next((total for end, total in self.extended if step < end), self.total_steps)

    def find_extension(self, step: int) -> int | None:
        """Return after how many steps the run was last extended before a step, counted from 1; None if it was not."""
        return max((end for end, _ in self.extended if end < step), default=None)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        extended = [list(pair) for pair in self.extended]
        return asdict(self) | {"validation_steps": list(self.validation_steps), "extended": extended}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Plan:
        """Build a plan from `to_json`'s form; that of earlier checkpoints does not say whether a run was extended."""
        extended = tuple((step, total) for step, total in value.get("extended", ()))
        return cls(**(value | {"validation_steps": tuple(value["validation_steps"]), "extended": extended}))


def count_steps(epochs: float | None, iterations: int | None, num_train: int, samples_per_step: int) -> int:
    """Return the optimiser steps of a training whose length is given in epochs or in steps.

    Args:
        epochs: Passes over the training images; of this and the next exactly one is not None.
        iterations: Optimiser steps.
        num_train: Training images.
        samples_per_step: Images in an optimiser step.
    """
    return iterations if iterations is not None else max(math.ceil((epochs or 0) * num_train / samples_per_step), 1)


def build_plan(
    *,
    epochs: float | None,
    iterations: int | None,
    max_minutes: float | None,
    validations: int,
    num_train: int,
    samples_per_step: int,
    elapsed_s: Callable[[], float],
    measure: Callable[[], Timing],
    extended: tuple[tuple[int, int], ...] = (),
    begun: Plan | None = None,
) -> Plan:
    """Turn the requested length into a number of steps.

    The validations of an extended run are those of each plan while it held: a run that begins with the settings of an
    extended one makes the same steps and the same validations.

    Args:
        epochs: Passes over the training images; of this and the two below exactly one is not None.
        iterations: Optimiser steps.
        max_minutes: Minutes from start to report.
        validations: How often to validate.
        num_train: Training images.
        samples_per_step: Images in an optimiser step.
        elapsed_s: Gives the seconds since the run was started.
        measure: Called for `max_minutes` alone: times a few steps and one validation image.
        extended: See `Plan`.
        begun: The plan of the run that is extended, after the steps of the last of `extended`.
    Raises:
        ConfigError: The minutes are too few for one step and one validation, or the run does not become longer.
    """
    steps_per_epoch = num_train / samples_per_step
    done = extended[-1][0] if begun else 0
    if epochs is not None or iterations is not None:
        total = count_steps(epochs, iterations, num_train, samples_per_step)
    else:
        total, validations = _fit_minutes(max_minutes or 0.0, validations, measure(), elapsed_s)
        total += done
    if extended and total <= extended[-1][1]:
        raise ConfigError(
            f"an extended run becomes longer: {describe_count(extended[-1][1], 'step')} planned until now, and the new "
            f"length is {describe_count(total, 'step')}, those done included",
            "Give the length of the whole run, such as `epochs=100`; `resume` continues a run as it was planned.",
        )
    marks, start = (list(begun.validation_steps), done) if begun else ([], 0)
    marks = [mark for mark in marks if mark <= done]
    for end, planned in (*(() if begun else extended), (total, total)):
        own = {max(round(planned * n / validations), 1) for n in range(1, validations + 1)}
        marks += sorted(mark for mark in own if start < mark <= end)
        start = end
    return Plan(total, tuple(marks), samples_per_step, steps_per_epoch, extended)


def _fit_minutes(minutes: float, validations: int, timing: Timing, elapsed_s: Callable[[], float]) -> tuple[int, int]:
    """Return the steps that fit, and how many validations; with the final pass they take a quarter of the time."""
    left_s = minutes * 60 * TIMING_MARGIN - elapsed_s() - FINISH_S
    affordable = min(left_s / 4, left_s - timing.step_s) / timing.validation_s
    validations = max(min(validations, int(affordable) - 1), 1)
    steps = int((left_s - (validations + 1) * timing.validation_s) / timing.step_s)  # the best weights: once more
    if steps < 1:
        needed = (elapsed_s() + FINISH_S + 2 * timing.validation_s + timing.step_s) / 60 / TIMING_MARGIN
        tenths = math.floor(needed * 10) + 1  # rounded up: the number that is named must do
        raise ConfigError(
            f"training.max_minutes: {minutes:g} min is too short for one step and one validation",
            f"At least {tenths / 10:g} min are needed here; or plan by `iterations`.",
        )
    return steps, validations
