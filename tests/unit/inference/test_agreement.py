from __future__ import annotations

import pytest
import torch

from atrous.inference.agreement import describe_difference

EXACT = torch.randn(1, 3, 20, 20, generator=torch.Generator().manual_seed(0))


def test_rounding_is_no_difference() -> None:
    assert describe_difference(EXACT * (1 + 1e-6), EXACT, EXACT) is None


def test_logits_and_labels_that_differ_are_told() -> None:
    other = EXACT.clone()
    other[0, :, 0, 0] = other[0, :, 0, 0].roll(1)
    found = describe_difference(other, EXACT, EXACT)
    assert found is not None
    assert "0.25% of the labels" in found


def test_in_bf16_torch_itself_says_how_far_results_may_differ() -> None:
    rounded = EXACT + 0.01
    assert describe_difference(EXACT - 0.015, rounded, EXACT) is None
    assert describe_difference(EXACT - 0.05, rounded, EXACT) is not None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_results_that_are_not_finite_differ(value: float) -> None:
    other = EXACT.clone()
    other[0, 0, 0, 0] = value
    assert describe_difference(other, EXACT, EXACT) is not None
