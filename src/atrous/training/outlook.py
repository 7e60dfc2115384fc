"""What the curve of a finished training says about a longer one."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

from atrous.config.schema import Config
from atrous.core.data_source import PYTHON_SOURCE
from atrous.core.records import Note
from atrous.core.run_folder import RunFolder
from atrous.training.journal import Row
from atrous.training.optimizers import choose_rates

LEAST_CHANGE = 0.01
"""A smaller change of mIoU between validations is not told from chance."""
LEAST_VALIDATIONS = 4
FEW_PASSES = 20.0
"""With fewer passes over the images a longer training often scores higher, although the curve is flat at its end."""
COMMAND = "`atrous train --extend {run} --epochs {epochs}`"
AGAIN = "`atrous train --recipe {settings} --set {change}`"


def describe_outlook(rows: Sequence[Row], run: RunFolder, config: Config, epochs: float) -> Note | None:
    """Compare the last validation with the best one and with that at three quarters of the steps.

    The learning rate falls to zero towards the end of every training. Some gain in the last quarter is therefore usual,
    and a flat end alone does not say that a longer training would end there too. The note says how large the gain was,
    and which command trains it for longer.

    Args:
        rows: The validations in order, each with `step`, `loss` (mean of the steps since the one before) and `miou`.
        run: The run's folder.
        config: Its settings.
        epochs: Passes over the training images.
    Returns: The note; None if there were fewer than four validations, or scores are missing.
    """
    scores = [row["miou"] for row in rows]
    if len(rows) < LEAST_VALIDATIONS or any(not isinstance(score, float) for score in scores):
        return None
    mious = [float(score) for score in scores if score is not None]
    last, best = mious[-1], max(mious)
    middle = math.ceil(len(rows) * 3 / 4) - 1
    gain, lost = last - mious[middle], best - last
    is_falling = lost >= LEAST_CHANGE
    if is_falling and _number(rows[-1], "loss") < _number(rows[mious.index(best)], "loss"):
        return Note(
            "overfitting",
            f"overfitting: the mIoU was best at step {rows[mious.index(best)]['step']:,}, whose weights are kept, and "
            f"fell by {lost:.3f} since, while the training loss fell too. More images help most; else more variation, "
            f"or fewer epochs{_describe_again(run, config, 'training.jitter=0.2')}",
        )
    if is_falling or gain <= -LEAST_CHANGE:
        lr = choose_rates(config.training, config.model.weights).backbone
        return Note(
            "unsteady",
            f"unsteady: the mIoU was best at step {rows[mious.index(best)]['step']:,}, whose weights are kept, and is "
            f"{lost:.3f} lower at the end. A lower learning rate may help"
            f"{_describe_again(run, config, f'training.lr={lr / 2:.2g}')}",
        )
    since = f"since step {rows[middle]['step']:,}"
    is_last = run.find_whole() == run  # an earlier stage is followed by the next one
    longer = f" To train for longer: {_describe_longer(run, config, 2 * epochs)}" if is_last else ""
    if gain >= LEAST_CHANGE:
        return Note("still-improving", f"still improving: the mIoU rose by {gain:.3f} {since}.{longer}")
    change = f"levelled off: the mIoU changed by {gain:+.3f} {since}, while the learning rate fell to 0"
    if epochs < FEW_PASSES:
        return Note("levelled-off", f"{change}. After {epochs:.1f} passes over the images more may still help.{longer}")
    return Note(
        "levelled-off", f"{change}. After {epochs:.0f} passes more images are likelier to help than more passes"
    )


def _number(row: Row, name: str) -> float:
    return float(row[name] or 0.0)


def _describe_again(run: RunFolder, config: Config, change: str) -> str:
    """Return the command of a new training with one other setting; nothing if a command cannot make it.

    Data that are Python objects have none, and the settings of one stage are not those of a run.
    """
    if config.data.source == PYTHON_SOURCE or run.find_whole() != run or any(run.iter_stages()):
        return ""
    return f": {AGAIN.format(settings=shlex.quote(str(run.config)), change=change)}"


def _describe_longer(run: RunFolder, config: Config, epochs: float) -> str:
    """Return the command that trains it for longer, or the Python call if the data are Python objects."""
    if config.data.source == PYTHON_SOURCE:
        return f"atrous.train((train, val), extend={str(run.path)!r}, epochs={round(epochs, 2)})"
    return COMMAND.format(run=shlex.quote(str(run.path)), epochs=round(epochs, 2))
