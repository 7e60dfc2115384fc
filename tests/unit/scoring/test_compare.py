from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from atrous.core.calibration import Chosen
from atrous.core.comparison import Comparison
from atrous.core.errors import DataError, UsageError
from atrous.core.labels import LabelSpace
from atrous.core.records import ImageScore, Protocol
from atrous.metrics.confusion import ConfusionMatrix, compute_miou, compute_tally
from atrous.scoring.compare import DIFFERING_IMAGES, Measured, compare_models
from atrous.scoring.count import Counts
from atrous.scoring.summarise import summarise

SPACE = LabelSpace(("sky", "road", "car", "pole"))
MATRICES = np.random.default_rng(0).integers(1, 60, (60, 4, 4)) + np.eye(4, dtype=np.int64) * 90


class Labels:
    """What `summarise` reads of a labeller."""

    label_space = SPACE
    protocol = Protocol()
    chosen = Chosen()


def measure(name: str, matrices: np.ndarray, recipe: str = "", seed: int | None = None, clips: int = 0) -> Measured:
    counts = Counts(ConfusionMatrix(4))
    for number, matrix in enumerate(matrices):
        counts.total.counts += matrix
        counts.images[number] = ImageScore(f"p{number}", compute_miou(matrix), 9, 9)
        counts.tallies[number] = compute_tally(matrix)
        counts.bands[number] = np.zeros((2, 2, 3, 4), dtype=np.int64)
        counts.parts[number] = np.zeros((3, 3), dtype=np.int64)
        if clips:
            counts.groups[number] = f"clip {number % clips}"
    scores = summarise(counts, Labels(), data="cells val")
    return Measured(name, Labels(), None, counts, scores, recipe, seed)


def correct(matrices: np.ndarray, share: float, seed: int = 1) -> np.ndarray:
    """Move a share of the wrong pixels of each class to the right class, more in some images than in others."""
    shares = np.random.default_rng(seed).uniform(0, 2 * share, (len(matrices), 1, 1))
    wrong = matrices * (1 - np.eye(4, dtype=np.int64))
    moved = (np.clip(shares, -1, 1) * wrong).round().astype(np.int64)
    return matrices - moved + moved.sum(axis=2, keepdims=True) * np.eye(4, dtype=np.int64)


def test_a_better_model_is_called_better_and_the_other_way_round_worse() -> None:
    found = compare_models([measure("old", MATRICES), measure("new", correct(MATRICES, 0.2))])
    (difference,) = found.differences
    assert difference.verdict == "better"
    assert difference.miou == pytest.approx(found.scores["new"].miou - found.scores["old"].miou)
    low, high = difference.interval
    assert 0 < low < difference.miou < high
    assert difference.needed is None
    old, new = found.scores["old"].classes, found.scores["new"].classes
    for row, first, second in zip(difference.classes, old, new, strict=True):
        assert (row.reference_iou, row.iou) == pytest.approx((first.iou, second.iou))
        assert row.difference == pytest.approx(second.iou - first.iou)
        assert row.interval[0] < row.difference < row.interval[1]
    (back,) = compare_models([measure("new", correct(MATRICES, 0.2)), measure("old", MATRICES)]).differences
    assert back.verdict == "worse"
    assert back.interval == pytest.approx((-high, -low))


def test_an_undecided_comparison_says_how_many_images_would_decide_it() -> None:
    other = np.where(np.arange(60)[:, None, None] % 2, correct(MATRICES, 0.2), MATRICES)
    some = np.where(np.arange(60)[:, None, None] % 2, MATRICES, correct(MATRICES, 0.19))
    (difference,) = compare_models([measure("a", some), measure("b", other)]).differences
    assert difference.verdict == "undecided"
    assert difference.needed > 60
    expected = 60 * (2.8 * difference.standard_error / difference.miou) ** 2
    assert difference.needed == pytest.approx(expected, rel=0.06)
    assert f"about {difference.needed:,} images would decide it" in difference.describe("image")


def test_the_number_of_images_that_would_decide_decides_in_four_of_five_cases() -> None:
    generator = np.random.default_rng(3)
    population = generator.normal(0.02, 0.1, 10**5)  # differences of single images
    needed = round((2.8 * population.std() / population.mean()) ** 2)
    decided = [
        (sample := generator.choice(population, needed)).mean() > 1.96 * sample.std() / np.sqrt(needed)
        for _ in range(500)
    ]
    assert 0.75 < np.mean(decided) < 0.85


def test_equal_models_are_equal_and_few_images_are_too_few() -> None:
    (same,) = compare_models([measure("a", MATRICES), measure("b", MATRICES)]).differences
    assert (same.verdict, same.miou, same.interval, same.images) == ("equal", 0.0, (0.0, 0.0), ())
    (few,) = compare_models([measure("a", MATRICES[:9]), measure("b", correct(MATRICES[:9], 0.2))]).differences
    assert (few.verdict, few.interval) == ("too few to say", None)
    assert few.miou > 0
    models = [measure("a", MATRICES, clips=5), measure("b", correct(MATRICES, 0.2), clips=5)]
    clips = compare_models(models)
    assert clips.differences[0].verdict == "too few to say"
    assert clips.list_lines()[-1] == "no intervals: 5 groups of images (data.split.group) are too few to say"


def test_runs_that_differ_in_their_seed_alone_are_one_side() -> None:
    seeds = [measure(f"a{seed}", correct(MATRICES, 0.05, seed), "recipe a", seed) for seed in range(3)]
    better = [measure(f"b{seed}", correct(MATRICES, 0.3, seed), "recipe b", seed) for seed in range(2)]
    found = compare_models([*seeds, *better, measure("c", MATRICES)])
    assert [side.models for side in found.sides] == [("a0", "a1", "a2"), ("b0", "b1"), ("c",)]
    mious = [each.scores.miou for each in seeds]
    assert found.sides[0].miou == pytest.approx(np.mean(mious))
    assert found.sides[0].spread == pytest.approx(np.std(mious, ddof=1))
    assert found.sides[2].spread is None
    assert found.differences[0].miou == pytest.approx(found.sides[1].miou - found.sides[0].miou)
    assert any(line.startswith("a0 a1 a2 differ in the seed alone: mIoU 0.") for line in found.list_lines())
    alone = compare_models(seeds)
    assert alone.differences == ()
    twice = [measure("a", MATRICES, "recipe", 0), measure("copy", MATRICES, "recipe", 0)]
    assert len(compare_models(twice).sides) == 2  # the same seed is not another one


def test_images_that_differ_most_come_first() -> None:
    other = correct(MATRICES, 0.2)
    (difference,) = compare_models([measure("a", MATRICES), measure("b", other)]).differences
    gaps = [abs(compute_miou(b) - compute_miou(a)) for a, b in zip(MATRICES, other, strict=True)]
    expected = [f"p{number}" for number in np.argsort(gaps)[::-1][:DIFFERING_IMAGES]]
    assert [row.key for row in difference.images] == expected
    assert difference.images[0].miou - difference.images[0].reference_miou == pytest.approx(max(gaps))


def test_other_images_other_pixels_and_the_same_name_are_refused() -> None:
    first = measure("a", MATRICES)
    with pytest.raises(DataError, match="b was scored on other images than a"):
        compare_models([first, measure("b", MATRICES[:50])])
    with pytest.raises(DataError, match="b was scored on other pixels than a"):
        compare_models([first, measure("b", MATRICES + 1)])
    with pytest.raises(UsageError, match="the same name"):
        compare_models([first, replace(first)])


def test_a_comparison_prints_its_verdicts_and_is_json() -> None:
    found = compare_models([measure("a", MATRICES), measure("b", correct(MATRICES, 0.2))])
    assert isinstance(found, Comparison)
    assert "b against a: better, mIoU +0." in repr(found)
    row = found.to_json()["comparison"]["differences"][0]
    assert (row["verdict"], len(row["classes"])) == ("better", 4)
    assert [each["model"] for each in found.to_json()["models"]] == ["a", "b"]


def test_a_difference_of_rounding_asks_for_no_number_of_images() -> None:
    """Every model labels the same pixels right, each in other images, so that thirds of a score are subtracted."""
    better = correct(MATRICES[:30], 0.3)

    def place(seed: int) -> np.ndarray:
        placed = np.repeat(MATRICES[:30], 2, axis=0)
        placed[2 * np.arange(30) + np.random.default_rng(seed).integers(0, 2, 30)] = better
        return placed

    seeds = [measure(f"r{seed}", place(seed), "r", seed) for seed in range(3)]
    (difference,) = compare_models([measure("b", place(99)), *seeds]).differences
    assert difference.miou != 0.0
    assert difference.verdict == "undecided"
    assert difference.needed is None
