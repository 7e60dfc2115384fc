"""Why a class is never predicted: its labels, ignored pixels, its weight, the learning rate, or its share."""

from __future__ import annotations

from collections.abc import Sequence

from atrous.config.schema import TrainingConfig
from atrous.core.records import Note
from atrous.core.words import describe_count
from atrous.data.statistics import MaskStatistics
from atrous.training.journal import Row

MISSED_VALIDATIONS = 3
"""After so many validations in a row without a prediction of a class it is diagnosed."""
FEW_IMAGES = 5
MOSTLY_IGNORED = 0.5
LOW_WEIGHT = 0.5
"""Of the mean weight of all classes."""
LEAST_FALL = 0.05
"""Share by which the loss falls in a training that learns at all."""
RARE_SHARE = 0.02


def count_missed(missed: Sequence[int], names: Sequence[str], never_predicted: Sequence[str]) -> tuple[int, ...]:
    """Return for each class after how many validations in a row it has not been predicted.

    Args:
        missed: The same before this validation; empty before the first one.
        names: Class names.
        never_predicted: Those that this validation never predicted, although its images hold them.
    """
    before = missed or [0] * len(names)
    return tuple(count + 1 if name in never_predicted else 0 for name, count in zip(names, before, strict=True))


def diagnose_class(
    name: str, index: int, statistics: MaskStatistics, training: TrainingConfig, rows: Sequence[Row]
) -> Note:
    """Say the likeliest reason why a class is not predicted: the first that the facts support, in a fixed order.

    Args:
        name: Name of the class.
        index: Its index.
        statistics: What the training masks hold.
        training: Settings of the training.
        rows: The validations so far, each with `loss`.
    """
    pixels, images = int(statistics.pixels[index]), int(statistics.images[index])
    total = int(statistics.pixels.sum())
    weights = training.class_weights if isinstance(training.class_weights, tuple) else ()
    losses = [float(row["loss"]) for row in rows if row["loss"] is not None]
    share = pixels / max(total, 1)
    if images < FEW_IMAGES:
        reason = f"labels: of {len(statistics.presence):,} training images {images} show it. Label more"
    elif statistics.ignored_share > MOSTLY_IGNORED:
        share_ignored = f"{statistics.ignored_share:.0%} of the training masks are ignored"
        reason = f"ignored pixels: {share_ignored}, see data.ignore. Label more of them"
    elif weights and weights[index] < LOW_WEIGHT * sum(weights) / len(weights):
        reason = f"weights: its weight in the loss is {weights[index]:g}. Raise it in training.class_weights"
    elif len(losses) > 1 and losses[-1] > (1 - LEAST_FALL) * losses[0]:
        reason = (
            f"learning rate: the training loss went from {losses[0]:.3f} to {losses[-1]:.3f}, so nothing is learnt. "
            "Try another `lr`, ten times lower and ten times higher"
        )
    elif share < RARE_SHARE:
        reason = (
            f"imbalance: it has {share:.2%} of the labelled pixels. `class_weights=auto`, or training.rare_crops at "
            "0.3, show it more"
        )
    else:
        reason = "none of labels, ignored pixels, weights, learning rate and imbalance stands out. Train for longer"
    return Note(
        "never-predicted", f"{name!r} was not predicted in {describe_count(MISSED_VALIDATIONS, 'validation')}; {reason}"
    )
