"""How long a step and a validation take, measured before the first step for a run that is planned by minutes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from atrous.data.sampling import Batch
from atrous.training.ema import AveragedNetwork
from atrous.training.optimizers import set_lr_factor
from atrous.training.plan import Timing
from atrous.training.step import Step
from atrous.training.validation import Validator

WARM_UP_STEPS, TIMED_STEPS = 2, 4


def measure_timing(
    step: Step, averaged: AveragedNetwork, validator: Validator, batches: Sequence[Sequence[Batch]]
) -> Timing:
    """Time a few steps and the labelling of an image, then restore network, averages and optimiser.

    Args:
        step: What a step works on.
        averaged: The averaged network, updated in every step.
        validator: What scores the averaged network.
        batches: The batches of WARM_UP_STEPS + TIMED_STEPS steps.
    """
    state = {name: tensor.clone() for name, tensor in step.network.state_dict().items()}
    times = []
    set_lr_factor(step.optimizer, 0.0)
    for number, own in enumerate(batches, start=1):
        begun = time.perf_counter()
        step.take(own, number)
        averaged.update(step.network, 0)
        times.append(time.perf_counter() - begun)
    step.network.load_state_dict(state)
    averaged.network.load_state_dict(state)
    step.optimizer.state.clear()
    return Timing(sum(times[WARM_UP_STEPS:]) / TIMED_STEPS, validator.measure_seconds())
