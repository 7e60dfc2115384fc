"""Learning rates as functions of the step: nothing to store, nothing to restore."""

from __future__ import annotations

from atrous.config.schema import TrainingConfig
from atrous.core.records import Note
from atrous.core.words import describe_count
from atrous.training.plan import Plan


def compute_planned(step: int, plan: Plan, training: TrainingConfig) -> float:
    """Return the factor on the learning rate at a step, by the number of steps that was planned when it was made.

    Args:
        step: Steps done, >= 0.
        plan: The length of the run, which may have been extended.
        training: Settings: `power` and `warmup_fraction`.
    """
    total = plan.find_total(step)
    return compute_poly(step, total, power=training.power, warmup_steps=round(training.warmup_fraction * total))


def describe_extensions(plan: Plan, training: TrainingConfig, lr: float) -> tuple[Note, ...]:
    """Say of each extension of a run where it began, and how it changed the learning rate; none for other runs.

    Args:
        plan: The length of the run.
        training: See `compute_planned`.
        lr: The learning rate that the factors are of.
    """
    notes = []
    for step, total in plan.extended:
        before, after = (lr * compute_planned(at, plan, training) for at in (max(step - 1, 0), step))
        message = (
            f"extended after step {step:,} of {total:,} to {describe_count(plan.find_total(step), 'step')}: "
            f"the learning rate was {before:.3g} at step {max(step, 1):,} and is {after:.3g} at step {step + 1:,}"
        )
        notes.append(Note("extended", message))
    return tuple(notes)


def compute_poly(step: int, total: int, *, power: float = 0.9, warmup_steps: int = 0) -> float:
    """Return the factor on the learning rate at a step: (1 - step / total) ** power, never below 0.

    Args:
        step: Steps done, >= 0; beyond `total` the factor is 0.
        total: Steps of the whole run, >= 1.
        power: Exponent.
        warmup_steps: Steps over which the factor rises linearly from near 0.
    Source: Chen et al. 2017 (arXiv 1706.05587), section 4.1.
    """
    left: float = max(1.0 - step / total, 0.0) ** power
    return left * min((step + 1) / (warmup_steps + 1), 1.0)
