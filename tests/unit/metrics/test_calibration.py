from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logsumexp
from sklearn.metrics import precision_recall_curve
from torchmetrics.functional.classification import multiclass_calibration_error

from atrous.core.labels import IGNORE_INDEX
from atrous.metrics.calibration import (
    LEVELS,
    TEMPERATURES,
    ConfidenceCounts,
    compute_calibration_error,
    compute_coverage,
    count_foreground,
    find_best_level,
)


def draw(seed: int, pixels: int, num_classes: int = 5, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities, and a truth drawn from them before they are made sharper; some of it is ignored."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(num_classes, pixels)) * 2
    probs = np.exp(log_softmax(logits, axis=0))
    truth = (generator.random(pixels) > probs.cumsum(axis=0)).sum(axis=0).clip(0, num_classes - 1)
    ignored = generator.random(pixels) < 0.1
    return log_softmax(logits * sharpness, axis=0).astype(np.float32), np.where(ignored, IGNORE_INDEX, truth)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_the_calibration_error_is_that_of_torchmetrics(temperature: float) -> None:
    log_probs, truth = draw(0, 20_000, sharpness=1.7)
    counts = ConfidenceCounts(5, (temperature,))
    counts.update(log_probs, truth, log_probs.argmax(axis=0))
    probs = torch.tensor(np.exp(log_softmax(log_probs / temperature, axis=0))).T
    expected = multiclass_calibration_error(
        probs, torch.tensor(truth.astype(int)), num_classes=5, n_bins=15, ignore_index=IGNORE_INDEX
    )
    assert compute_calibration_error(counts.counts[0]) == pytest.approx(float(expected), abs=3e-4)  # levels
    assert counts.counts.sum() == (truth != IGNORE_INDEX).sum()


def test_counts_of_pieces_add_up_to_those_of_the_whole() -> None:
    log_probs, truth = draw(1, 3000)
    labels = log_probs.argmax(axis=0)
    whole, pieces = ConfidenceCounts(5, TEMPERATURES), ConfidenceCounts(5, TEMPERATURES)
    whole.update(log_probs, truth, labels)
    for part in (slice(0, 1000), slice(1000, 3000)):
        other = ConfidenceCounts(5, TEMPERATURES)
        other.update(log_probs[:, part], truth[part], labels[part])
        pieces.merge(other)
    np.testing.assert_array_equal(pieces.counts, whole.counts)
    np.testing.assert_allclose(pieces.losses, whole.losses)


@pytest.mark.parametrize("sharpness", [0.6, 1.0, 1.8, 3.0])
def test_the_temperature_is_the_one_that_an_optimiser_finds(sharpness: float) -> None:
    log_probs, truth = draw(2, 40_000, sharpness=sharpness)
    counts = ConfidenceCounts(5, TEMPERATURES)
    counts.update(log_probs, truth, log_probs.argmax(axis=0))
    valid = truth != IGNORE_INDEX

    def compute_loss(temperature: float) -> float:
        scaled = log_probs[:, valid] / temperature
        return float((logsumexp(scaled, axis=0) - scaled[truth[valid].astype(int), np.arange(valid.sum())]).sum())

    expected = minimize_scalar(compute_loss, bounds=(0.2, 9), method="bounded").x
    number = counts.choose_temperature()
    assert TEMPERATURES[number] == pytest.approx(expected, rel=0.025)  # half a step
    assert TEMPERATURES[number] == pytest.approx(sharpness, rel=0.05)  # what made them wrong
    assert counts.losses[number] == pytest.approx(compute_loss(TEMPERATURES[number]), rel=1e-5)
    before, after = (compute_calibration_error(counts.counts[i]) for i in (TEMPERATURES.index(1.0), number))
    assert after < 0.012
    assert after <= before


def test_where_no_temperature_is_better_it_stays_one() -> None:
    counts = ConfidenceCounts(3, TEMPERATURES)
    assert TEMPERATURES[counts.choose_temperature()] == 1.0


def test_pixels_with_a_least_confidence_are_counted_with_their_accuracy() -> None:
    log_probs, truth = draw(3, 5000)
    labels = log_probs.argmax(axis=0)
    counts = ConfidenceCounts(5)
    counts.update(log_probs, truth, labels)
    valid = truth != IGNORE_INDEX
    confidence = np.exp(log_probs.max(axis=0))[valid]
    for least in (0.0, 0.5, 0.7, 0.9, 0.99):
        kept = confidence >= least
        expected = kept.mean(), (labels == truth)[valid][kept].mean()
        assert compute_coverage(counts.counts[0], least) == pytest.approx(expected, abs=1e-3)
    assert np.isnan(compute_coverage(np.zeros((2, LEVELS)), 0.5)).all()


def test_many_pixels_are_counted_on_a_grid() -> None:
    assert ConfidenceCounts(11, (1.0, 2.0)).find_step(100, 100) == 1
    for temperatures in ((1.0,), TEMPERATURES):
        counts = ConfidenceCounts(11, temperatures)
        steps = [counts.find_step(side, side) for side in (10, 360, 2000)]
        assert steps == sorted({*steps})
        assert steps[0] == 1
        for side, step in zip((360, 2000), steps[1:], strict=True):
            values = (-(-side // step)) ** 2 * 11
            assert values <= 2**18 * 1.05
            assert values * len(temperatures) <= 2**21 * 1.2
            denser = (-(-side // (step - 1))) ** 2 * 11
            assert denser > 2**18 or denser * len(temperatures) > 2**21


def test_precision_and_recall_are_those_of_scikit_learn_and_the_best_threshold_is_the_best_of_all() -> None:
    log_probs, truth = draw(4, 4000, num_classes=2)
    counts = ConfidenceCounts(2)
    counts.update(log_probs, truth, log_probs.argmax(axis=0))
    valid = truth != IGNORE_INDEX
    level = np.minimum((np.exp(log_probs[1, valid]) * LEVELS).astype(int), LEVELS - 1)
    precision, recall, thresholds = precision_recall_curve(truth[valid] == 1, level)
    rows = count_foreground(counts.foreground)
    hits, given, true = rows[thresholds.astype(int)].T
    np.testing.assert_allclose(hits / given, precision[:-1])
    np.testing.assert_allclose(hits / true, recall[:-1])
    f1 = [2 * p * r / (p + r) for p, r in zip(precision[:-1], recall[:-1], strict=True) if p + r > 0]
    best_hits, best_given, best_true = rows[find_best_level(rows)]
    assert 2 * best_hits / (best_given + best_true) == pytest.approx(max(f1))
    assert rows[LEVELS].tolist() == [0, 0, int((truth[valid] == 1).sum())]
    assert not ConfidenceCounts(3).foreground.any()
