from __future__ import annotations

import math

import pytest
from scipy import stats

from atrous.core.errors import ConfigError, UsageError
from atrous.networks import BACKBONES
from atrous.networks.build import build_network_from
from atrous.studies.study import (
    Base,
    Claim,
    Row,
    Study,
    compute_standard_error,
    judge_claim,
    name_training,
    parse_seeds,
)


def by_seed(*mious: float) -> dict[int, float]:
    return dict(enumerate(mious))


@pytest.mark.parametrize(
    ("better", "worse", "word", "difference", "error"),
    [
        # Differences 1, 2, 3: mean 2, deviation 1, so the error is 1 / sqrt(3).
        ((3, 5, 7), (2, 3, 4), "holds", 2.0, 1 / math.sqrt(3)),
        ((2, 3, 4), (3, 5, 7), "contradicted", -2.0, 1 / math.sqrt(3)),
        # Differences 0 and 2: mean 1, error 1: not above two errors.
        ((1, 3), (1, 1), "undecided", 1.0, 1.0),
        # Differences 1 and 3: mean 2 is two errors, no more.
        ((2, 4), (1, 1), "undecided", 2.0, 1.0),
        ((1, 1), (1, 1), "undecided", 0.0, 0.0),
        ((2, 2), (1, 1), "holds", 1.0, 0.0),
    ],
)
def test_a_gap_counts_above_two_standard_errors(better, worse, word, difference, error) -> None:
    verdict = judge_claim(by_seed(*better), by_seed(*worse))
    assert verdict.word == word
    assert verdict.difference == pytest.approx(difference)
    assert verdict.standard_error == pytest.approx(error)


def test_differences_are_paired_by_seed() -> None:
    """Seeds differ by far more than the rows, which unpaired scores would hide; a seed of one row alone is left out."""
    verdict = judge_claim({2: 0.91, 0: 0.11, 1: 0.52, 7: 0.0}, {0: 0.10, 1: 0.50, 2: 0.90})
    assert verdict.word == "holds"
    assert verdict.difference == pytest.approx(0.04 / 3)


@pytest.mark.parametrize(
    ("better", "worse", "reason"),
    [({0: 0.9}, {0: 0.1}, "one seed"), ({0: 0.9, 1: 0.8}, {1: 0.1}, "one seed"), ({}, {0: 0.1}, "not measured")],
)
def test_less_than_two_pairs_decide_nothing(better, worse, reason) -> None:
    verdict = judge_claim(better, worse)
    assert (verdict.word, verdict.reason, verdict.standard_error) == ("undecided", reason, None)


def test_the_standard_error_is_scipys() -> None:
    values = [0.71, 0.74, 0.69, 0.75]
    assert compute_standard_error(values) == pytest.approx(stats.sem(values))
    assert compute_standard_error([0.7]) is None


def test_rates_are_the_printed_ones_where_the_widest_has_a_cell() -> None:
    assert Base(crop=513).fit_rates(6, 12, 18, 24) == [6, 12, 18, 24]
    assert Base(crop=385).fit_rates(6, 12, 18, 24) == [6, 12, 18, 24]
    assert Base(crop=257).fit_rates(6, 12, 18, 24) == [4, 8, 12, 16]


@pytest.mark.parametrize("crop", range(65, 545, 32))
def test_fitted_rates_have_cells_and_are_whole_at_stride_32(crop: int) -> None:
    rates = Base(crop=crop).fit_rates(6, 12, 18, 24)
    assert max(rates) < (crop - 1) // 16 + 1
    assert all(rate % 2 == 0 for rate in rates)
    assert rates == sorted(rates)


def test_batches_keep_the_papers_proportions() -> None:
    assert [Base(batch=8).fit_batch(printed) for printed in (4, 8, 12, 16, 24)] == [2, 4, 6, 8, 12]
    assert Base(batch=1).fit_batch(4) == 1


@pytest.mark.parametrize("backbone", BACKBONES)
def test_whether_a_backbone_has_a_multi_grid_is_what_building_says(backbone: str) -> None:
    try:
        build_network_from({"name": f"fcn-{backbone}", "multi_grid": (1, 2, 4)}, 2)
    except ConfigError:
        assert not Base(backbone=backbone).has_multi_grid
    else:
        assert Base(backbone=backbone).has_multi_grid


def test_a_trainings_name_stands_for_its_settings() -> None:
    def name(base: Base, settings: dict[str, object] | None = None, seed: int = 0) -> str:
        return name_training(base.load(settings or {}, seed=seed))

    base = Base()
    assert name(base) == name(base)
    assert name(base, {"model.output_stride": 16}) == name(base), "a default written out is the same training"
    assert name(base, seed=1).removesuffix("1") == name(base).removesuffix("0")
    assert name_training(base.load({}, folder="elsewhere")) == name(base)
    others = [name(base, {"model.output_stride": 8}), name(Base(crop=193)), name(Base(iterations=7)), name(base)]
    assert len(set(others)) == len(others)


def test_a_study_refuses_labels_that_are_doubled_or_unknown() -> None:
    row = Row("a", {})
    with pytest.raises(ValueError, match="labels are not unique"):
        Study("x", "", "", (row, row), ())
    with pytest.raises(ValueError, match="'b', which does not exist"):
        Study("x", "", "", (row,), (Claim("a beats b", "a", "b"),))


def test_seeds_are_read() -> None:
    assert parse_seeds("0") == (0,)
    assert parse_seeds("3, 1,2") == (3, 1, 2)


@pytest.mark.parametrize("text", ["", "a", "0,,1", "-1", "1,1", "1.5"])
def test_other_seeds_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="`seeds` got"):
        parse_seeds(text)
