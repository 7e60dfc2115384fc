from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from atrous.core.records import FEWEST_GROUPS
from atrous.metrics.bootstrap import ClassPixels, Ratios, Resampling
from atrous.metrics.confusion import compute_miou, compute_pixel_accuracy, compute_tally


def draw_counts(seed: int, num_images: int, num_classes: int = 4) -> np.ndarray:
    """Confusion matrices of images that differ in what they show and in how well they are labelled."""
    generator = np.random.default_rng(seed)
    shares = generator.gamma(0.7, size=(num_images, num_classes, 1)) + 0.05
    quality = generator.beta(6, 2, (num_images, 1, 1))
    answers = quality * np.eye(num_classes) + (1 - quality) / num_classes
    return np.round(1000 * shares * answers).astype(np.int64)


def estimate_naively(counts: np.ndarray, draws: np.ndarray) -> tuple[float, float, float]:
    """The interval of the mIoU by plain loops: jackknife errors of each draw, symmetric on the scale of the logit."""

    def jackknife(sample: np.ndarray) -> tuple[float, float]:
        size = len(sample)
        whole = sample.sum(0)
        left_out = np.array([compute_miou(whole - one) for one in sample])
        return compute_miou(whole), float(np.sqrt((size - 1) / size * ((left_out - left_out.mean()) ** 2).sum()))

    def logit(value: float) -> float:
        return float(np.log(value / (1 - value)))

    value, error = jackknife(counts)
    distances = []
    for draw in draws:
        other, its_error = jackknife(counts[draw])
        distances.append(abs(logit(other) - logit(value)) / (its_error / (other * (1 - other))))
    half = float(np.quantile(distances, 0.95)) * error / (value * (1 - value))
    return value, *(1 / (1 + np.exp(-(logit(value) + step))) for step in (-half, half))


def test_an_interval_agrees_with_one_by_plain_loops_and_jackknife_errors() -> None:
    counts = draw_counts(0, 40)
    resampling = Resampling(range(40))
    pixels = ClassPixels.sum_groups(compute_tally(counts), resampling)
    found = resampling.estimate(pixels.iou)
    draws = np.random.default_rng(5).integers(0, 40, (400, 40))
    value, low, high = estimate_naively(counts, draws)
    assert found.value == pytest.approx(value, rel=1e-12) == pytest.approx(compute_miou(counts.sum(0)))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.15 * (high - low))
    accuracy = resampling.estimate(pixels.pixel_accuracy)
    assert accuracy.value == pytest.approx(compute_pixel_accuracy(counts.sum(0)))
    assert 0 < accuracy.low < accuracy.value < accuracy.high < 1


def test_the_standard_error_of_a_mean_is_the_textbook_one() -> None:
    hits = np.random.default_rng(1).normal(10, 2, (50, 1))
    found = Resampling(range(50)).estimate_difference([Ratios(hits, np.ones_like(hits))], [Ratios(0 * hits, hits)])
    assert found.value == pytest.approx(hits.mean())
    assert found.standard_error == pytest.approx(stats.sem(hits[:, 0]))
    low, high = stats.t.interval(0.95, 49, hits.mean(), stats.sem(hits[:, 0]))
    assert found.interval == pytest.approx((low, high), abs=0.1 * (high - low))


def test_images_of_one_group_are_drawn_together() -> None:
    clips = draw_counts(2, 30)
    copies = compute_tally(np.repeat(clips, 4, axis=0))  # four equal frames say no more than one
    by_clip = Resampling(np.repeat(np.arange(30), 4).tolist())
    alone = Resampling(range(30))
    tallies = [(by_clip, copies), (alone, compute_tally(clips)), (Resampling(range(120)), copies)]
    grouped, single, ungrouped = (each.estimate(ClassPixels.sum_groups(t, each).iou) for each, t in tallies)
    assert by_clip.num_groups == 30
    assert grouped.interval == pytest.approx(single.interval, rel=1e-12)
    assert ungrouped.high - ungrouped.low < 0.6 * (grouped.high - grouped.low)


def test_the_same_seed_gives_the_same_interval_and_another_seed_nearly() -> None:
    tallies = compute_tally(draw_counts(3, 60))

    def find(seed: int) -> tuple[float, float]:
        resampling = Resampling(range(60), seed=seed)
        return resampling.estimate(ClassPixels.sum_groups(tallies, resampling).iou).interval

    assert find(0) == find(0)
    assert find(0) != find(1)
    assert find(0) == pytest.approx(find(1), abs=0.005)


@pytest.mark.parametrize(("num_groups", "is_enough"), [(FEWEST_GROUPS - 1, False), (FEWEST_GROUPS, True)])
def test_below_ten_groups_there_is_no_interval(num_groups: int, is_enough: bool) -> None:
    tallies = compute_tally(draw_counts(4, num_groups))
    resampling = Resampling(range(num_groups))
    iou = ClassPixels.sum_groups(tallies, resampling).iou
    assert (resampling.estimate(iou).interval is not None) == is_enough
    assert (resampling.estimate_difference([iou], [Ratios(iou.hits / 2, iou.totals)]).interval is not None) == is_enough


def test_a_class_in_few_images_has_no_interval_of_its_own() -> None:
    tallies = compute_tally(draw_counts(5, 40))
    tallies[9:, :, 3] = 0
    resampling = Resampling(range(40))
    iou = ClassPixels.sum_groups(tallies, resampling).iou
    assert resampling.estimate(iou.select(3)).interval is None
    assert resampling.estimate(iou.select(2)).interval is not None
    assert resampling.estimate(iou).interval is not None


def test_perfect_scores_and_all_ignored_have_no_interval_and_no_warning() -> None:
    tallies = compute_tally(np.stack([np.diag([5, 5])] * 20))
    resampling = Resampling(range(20))
    pixels = ClassPixels.sum_groups(tallies, resampling)
    assert resampling.estimate(pixels.iou).interval is None
    nothing = resampling.estimate(ClassPixels.sum_groups(0 * tallies, resampling).iou)
    assert np.isnan(nothing.value)
    assert nothing.interval is None


def test_a_difference_is_paired_and_of_equal_models_exactly_zero() -> None:
    counts = draw_counts(6, 50)
    better = counts + np.eye(4, dtype=np.int64) * 20
    resampling = Resampling(range(50))
    first, second = (ClassPixels.sum_groups(compute_tally(each), resampling).iou for each in (better, counts))
    found = resampling.estimate_difference([first], [second])
    assert found.value == pytest.approx(compute_miou(better.sum(0)) - compute_miou(counts.sum(0)))
    single = resampling.estimate(second)
    assert found.high - found.low < 0.5 * (single.high - single.low)  # what both models find hard is in neither
    assert resampling.estimate_difference([second], [second]).interval == (0.0, 0.0)
    mixed = resampling.estimate_difference([first, second], [second])
    assert (mixed.value, mixed.low) == pytest.approx((found.value / 2, found.low / 2))


def test_intervals_of_clusters_hold_the_truth_about_as_often_as_they_say() -> None:
    """A short form of benchmarks/intervals.py: 150 samples of 30 clusters."""
    inside = alarms = 0
    truth = compute_miou(draw_counts(100, 20000).sum(0))
    for seed in range(150):
        counts = draw_counts(seed, 30)
        other = draw_counts(seed + 10**6, 30)
        resampling = Resampling(range(30), resamplings=300, seed=seed)
        sides = [ClassPixels.sum_groups(compute_tally(each), resampling).iou for each in (counts, other)]
        found = resampling.estimate(sides[0])
        inside += found.low <= truth <= found.high
        difference = resampling.estimate_difference(sides[:1], sides[1:])
        alarms += not difference.low <= 0 <= difference.high
    assert 0.90 <= inside / 150 <= 0.99  # 2.8 standard errors around 95 %
    assert 0.01 <= alarms / 150 <= 0.10
