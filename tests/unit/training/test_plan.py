from __future__ import annotations

import json
import math
import re

import pytest

from atrous.core.errors import ConfigError
from atrous.training.plan import FINISH_S, TIMING_MARGIN, Plan, Timing, build_plan


def plan(elapsed=0.0, timing=None, **changes):
    fields = {
        "epochs": None,
        "iterations": None,
        "max_minutes": None,
        "validations": 4,
        "num_train": 10,
        "samples_per_step": 4,
    } | changes

    def measure():
        assert timing is not None, "nothing is timed where the length is given in steps"
        return timing

    return build_plan(**fields, elapsed_s=lambda: elapsed, measure=measure)


def test_iterations_are_steps():
    assert plan(iterations=7).total_steps == 7
    assert plan(iterations=7).steps_per_epoch == 2.5
    assert plan(iterations=7).samples_per_step == 4


@pytest.mark.parametrize(("epochs", "steps"), [(1, 3), (2, 5), (0.1, 1), (0.5, 2), (4, 10)])
def test_epochs_are_passes_over_the_images_rounded_up(epochs, steps):
    assert plan(epochs=epochs).total_steps == steps


def test_whole_numbers_of_passes_are_not_rounded_up_for_the_sake_of_a_float():
    for epochs in range(1, 30):
        for num_train in range(1, 30):
            for samples in range(1, 16):
                steps = plan(epochs=epochs, num_train=num_train, samples_per_step=samples).total_steps
                assert steps == -(-epochs * num_train // samples)


@pytest.mark.parametrize("total", [1, 2, 3, 7, 8, 9, 100])
@pytest.mark.parametrize("validations", [1, 2, 3, 8])
def test_validations_are_spread_and_the_last_is_at_the_end(total, validations):
    marks = plan(iterations=total, validations=validations).validation_steps
    assert marks[-1] == total
    assert list(marks) == sorted(set(marks))
    assert marks[0] >= 1
    assert len(marks) == min(total, validations)
    gaps = [b - a for a, b in zip((0, *marks), marks, strict=False)]
    assert max(gaps) - min(gaps) <= 1


def test_minutes_become_the_steps_that_fit_beside_validations_and_report():
    timing = Timing(step_s=2.0, validation_s=10.0)
    made = plan(max_minutes=10, elapsed=30.0, timing=timing, validations=3)
    spent = 30.0 + made.total_steps * 2.0 + (3 + 1) * 10.0 + FINISH_S  # the best weights are scored once more
    assert len(made.validation_steps) == 3
    assert spent <= 600 * TIMING_MARGIN < spent + 2.0


def test_validations_take_a_quarter_of_the_minutes_at_most():
    made = plan(max_minutes=10, timing=Timing(1.0, 60.0), validations=8)
    assert len(made.validation_steps) == 1
    assert len(plan(max_minutes=10, timing=Timing(1.0, 250.0), validations=8).validation_steps) == 1


@pytest.mark.parametrize("timing", [Timing(2.0, 10.0), Timing(0.7, 33.3), Timing(55.0, 1.0)])
def test_too_few_minutes_are_refused_and_the_named_number_suffices(timing):
    with pytest.raises(ConfigError, match=r"max_minutes: 0\.3 min is too short") as caught:
        plan(max_minutes=0.3, elapsed=5.0, timing=timing)
    needed = float(re.search(r"At least ([\d.]+) min", caught.value.hint)[1])
    assert plan(max_minutes=needed, elapsed=5.0, timing=timing).total_steps >= 1
    exact = (5.0 + FINISH_S + 2 * timing.validation_s + timing.step_s) / 60 / TIMING_MARGIN
    assert needed - exact < 0.11
    assert needed >= math.floor(exact * 10) / 10


def test_an_extended_plan_keeps_its_validations_and_has_those_of_the_new_length_beyond():
    first = plan(iterations=10)
    assert first.validation_steps == (2, 5, 8, 10)
    longer = plan(iterations=20, extended=((6, 10),), begun=first)
    assert longer.validation_steps == (2, 5, 10, 15, 20)
    assert [longer.find_total(step) for step in (0, 5, 6, 19)] == [10, 10, 20, 20]
    assert [longer.find_extension(step) for step in (1, 6, 7, 20)] == [None, None, 6, 6]
    twice = plan(iterations=30, extended=((6, 10), (20, 20)), begun=longer)
    assert twice.validation_steps == (2, 5, 10, 15, 20, 22, 30)
    assert [twice.find_total(step) for step in (5, 6, 19, 20)] == [10, 20, 20, 30]
    assert plan(iterations=30, extended=((6, 10), (20, 20))) == twice  # as a new run with the same settings has it
    assert Plan.from_json(json.loads(json.dumps(twice.to_json()))) == twice


def test_minutes_of_an_extension_are_those_of_the_whole_run():
    timing = Timing(step_s=2.0, validation_s=10.0)
    first = plan(max_minutes=10, elapsed=30.0, timing=timing)
    spent = 580.0
    longer = plan(max_minutes=20, elapsed=spent, timing=timing, extended=((first.total_steps,) * 2,), begun=first)
    more = longer.total_steps - first.total_steps
    assert spent + more * 2.0 + FINISH_S <= 1200 * TIMING_MARGIN < spent + more * 2.0 + FINISH_S + 6 * 10.0


def test_an_extension_that_is_not_longer_is_refused():
    first = plan(iterations=10)
    with pytest.raises(ConfigError, match=r"becomes longer: 10 steps planned until now, and .* is 10 steps"):
        plan(iterations=10, extended=((6, 10),), begun=first)


def test_a_plan_survives_json():
    made = plan(iterations=10)
    assert Plan.from_json(json.loads(json.dumps(made.to_json()))) == made
