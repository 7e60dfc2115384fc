from __future__ import annotations

import numpy as np
import pytest

from atrous.config.schema import TrainingConfig
from atrous.data.statistics import MaskStatistics
from atrous.training.diagnosis import count_missed, diagnose_class

FALLING = [{"loss": 2.0}, {"loss": 1.0}, {"loss": 0.5}]


def build_statistics(pixels=(9000, 1000), images=(20, 20), ignored=0):
    presence = np.arange(20)[:, None] < np.array(images)
    return MaskStatistics(np.array(pixels), presence, {255: ignored}, 20, 65)


@pytest.mark.parametrize(
    ("facts", "settings", "rows", "words"),
    [
        ({"images": (20, 3), "ignored": 99_999}, {}, FALLING, "labels: of 20 training images 3 show it"),
        ({"ignored": 20_000}, {"class_weights": (1.0, 0.1)}, FALLING, "ignored pixels: 67% of"),
        ({}, {"class_weights": (1.0, 0.1)}, [{"loss": 2.0}, {"loss": 2.0}], "weights: its weight in the loss is 0.1"),
        ({"pixels": (9990, 10)}, {}, [{"loss": 2.0}, {"loss": 1.99}], "went from 2.000 to 1.990, so nothing is learnt"),
        ({"pixels": (9990, 10)}, {}, FALLING, "imbalance: it has 0.10% of the labelled pixels"),
        ({}, {}, FALLING, "stands out. Train for longer"),
    ],
)
def test_the_first_reason_that_the_facts_support_is_given(facts, settings, rows, words):
    note = diagnose_class("crack", 1, build_statistics(**facts), TrainingConfig(**settings), rows)
    assert note.code == "never-predicted"
    assert note.startswith("'crack' was not predicted in 3 validations; ")
    assert words in note


def test_validations_in_a_row_are_counted_for_each_class():
    names, missed = ("a, b", "c"), ()
    for never in (("c",), ("a, b", "c"), ("a, b",)):
        missed = count_missed(missed, names, never)
    assert missed == (2, 0)
