from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

from atrous.core.calibration import Calibration, Chosen, Foreground
from atrous.core.records import ImageScore
from atrous.metrics.calibration import LEVELS, TEMPERATURES, ConfidenceCounts
from atrous.metrics.confusion import ConfusionMatrix
from atrous.scoring.calibration import choose_on, summarise_calibration, summarise_foreground
from atrous.scoring.count import Counts


def count_two(images: int, temperatures: tuple[float, ...] = TEMPERATURES, clips: int = 0) -> Counts:
    """Pixels of two classes, of which one in four is labelled wrongly with a confidence of 0.95."""
    counts = Counts(ConfusionMatrix(2), confidences=ConfidenceCounts(2, temperatures))
    log_probs = np.log(np.array([[0.95, 0.05], [0.05, 0.95]], dtype=np.float32)).repeat(4, axis=1)
    truth = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    for number in range(images):
        counts.images[number] = ImageScore(f"p{number}", 0.5, 2, 4)
        counts.confidences.update(log_probs, truth, log_probs.argmax(axis=0))
        if clips:
            counts.groups[number] = f"clip {number % clips}"
    return counts


def test_the_temperature_is_chosen_on_enough_images_and_lowers_the_error() -> None:
    counts = count_two(10)
    chosen = choose_on(counts, "cells val")
    assert chosen.describe() == f"temperature {chosen.temperature:.3g}, chosen on cells val"
    # softmax(log p / T) has 0.75 where the logit, ln 19 / T, is ln 3
    assert chosen.temperature == pytest.approx(np.log(19) / np.log(3), rel=0.025)
    found = summarise_calibration(counts.confidences, chosen)
    assert found.error_before == pytest.approx(0.2, abs=1e-3)
    assert found.error < 0.01
    assert found.pixels == 80
    [row] = found.bins
    assert (row.pixels, row.accuracy) == (80, 0.75)
    assert found.coverage[0].coverage == 1.0
    assert (found.coverage[-1].coverage, found.coverage[-1].accuracy) == (0.0, None)
    assert f"{found.error:.4f} ({found.error_before:.4f} without the temperature); temp" in found.describe()
    assert Calibration.from_json(json.loads(json.dumps(asdict(found)))) == found


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        (count_two(9), "9 images of cells val are too few to choose on"),
        (count_two(20, clips=3), "3 groups of cells val are too few to choose on"),
        (count_two(1), "1 image of cells val is too few to choose on"),
    ],
)
def test_too_few_images_or_groups_leave_the_temperature_with_the_reason(counts: Counts, reason: str) -> None:
    chosen = choose_on(counts, "cells val")
    assert (chosen.temperature, chosen.threshold, chosen.describe()) == (1.0, None, f"temperature 1: {reason}")


def test_where_no_temperature_lowers_the_loss_it_stays_with_the_reason() -> None:
    chosen = choose_on(count_two(10, (1.0,)), "cells val")
    assert chosen.describe() == "temperature 1: no other one lowers the loss on cells val"
    assert choose_on(Counts(ConfusionMatrix(2)), "cells val") == Chosen()  # a file that gives labels alone


def test_a_threshold_of_two_classes_is_chosen_by_the_best_f1() -> None:
    counts = count_two(10)
    chosen = choose_on(counts, "cells val")
    found = summarise_foreground(counts.confidences, "cell")
    assert chosen.threshold == found.best.threshold
    assert 0.05 < found.best.threshold < 0.95  # one of the levels between, all with the same labels
    assert (found.best.precision, found.best.recall, found.best.f1) == (0.75, 0.75, 0.75)
    assert found.best.iou == pytest.approx(0.6)
    assert [row.recall for row in (found.rows[0], found.rows[-1])] == [1.0, 0.0]
    assert found.rows[-1].precision is None
    assert "'cell' from a probability of 0.500 on has the best F1, 0.7500 (IoU 0.6000)" in found.describe()
    assert Foreground.from_json(json.loads(json.dumps(asdict(found)))) == found
    assert summarise_foreground(ConfidenceCounts(2), "cell") is None
    assert round(chosen.threshold * LEVELS) == chosen.threshold * LEVELS
