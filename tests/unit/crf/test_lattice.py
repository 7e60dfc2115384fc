from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from atrous.core.errors import ConfigError
from atrous.crf.lattice import PermutohedralLattice


def filter_naively(features: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, int]:
    """The lattice as the paper describes it: one point after another, corners in a dictionary. (d, N), (N, K)."""
    d, num_points = features.shape
    scales = np.sqrt(2 / 3) * (d + 1) / np.sqrt([(i + 1) * (i + 2) for i in range(d)])
    elevate = np.zeros((d + 1, d))
    for column in range(d):
        elevate[: column + 1, column] = 1
        elevate[column + 1, column] = -(column + 1)
    canonical = [[k] * (d + 1 - k) + [k - (d + 1)] * k for k in range(d + 1)]
    corners: dict[tuple[int, ...], np.ndarray] = {}
    shared = []
    for point in range(num_points):
        place = elevate @ (scales * features[:, point])
        nearest = np.round(place / (d + 1)).astype(int) * (d + 1)
        by_distance = np.argsort(-(place - nearest), kind="stable")
        excess = nearest.sum() // (d + 1)
        if excess > 0:
            nearest[by_distance[d + 1 - excess :]] -= d + 1
        elif excess < 0:
            nearest[by_distance[:-excess]] += d + 1
        ranks = np.argsort(np.argsort(-(place - nearest), kind="stable"))
        distance = np.sort(place - nearest)  # smallest first
        shares = [1 - (distance[-1] - distance[0]) / (d + 1)]
        shares += [(distance[k] - distance[k - 1]) / (d + 1) for k in range(1, d + 1)]
        keys = [tuple(int(nearest[i] + canonical[k][ranks[i]]) for i in range(d + 1)) for k in range(d + 1)]
        shared.append(list(zip(keys, shares, strict=True)))
        for key, share in shared[-1]:
            corners[key] = corners.get(key, 0) + share * values[point]
    for axis in range(d + 1):
        step = np.ones(d + 1, dtype=int)
        step[axis] = -d
        corners = {
            key: value
            + 0.5 * corners.get(tuple(np.add(key, step).tolist()), 0)
            + 0.5 * corners.get(tuple(np.subtract(key, step).tolist()), 0)
            for key, value in corners.items()
        }
    sliced = [sum(share * corners[key] for key, share in point) for point in shared]
    return np.stack(sliced) / (1 + 2.0**-d), len(corners)


def draw(num_features: int, num_points: int, *, spread: float = 1.5, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_features, num_points, generator=generator, dtype=torch.float64) * spread


@pytest.mark.parametrize("num_features", [1, 2, 3, 5])
@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_equals_a_dictionary_filled_point_by_point(num_features: int, spread: float) -> None:
    features, values = draw(num_features, 70, spread=spread), draw(70, 4, seed=1)
    lattice = PermutohedralLattice(features)
    expected, num_points = filter_naively(features.numpy(), values.numpy())
    assert lattice.num_points == num_points
    np.testing.assert_allclose(lattice.filter(values).numpy(), expected, rtol=1e-12, atol=1e-12)


def test_is_nearly_the_mean_over_all_pairs_with_gaussian_weights() -> None:
    rows, columns = np.mgrid[:40, :40]
    features = torch.from_numpy(np.stack((columns, rows)).reshape(2, -1) / 4.0)
    values = torch.from_numpy((columns + 2 * rows > 55).reshape(-1, 1) * 1.0)
    pairs = torch.exp(-0.5 * torch.cdist(features.T, features.T) ** 2)
    exact = pairs @ values / pairs.sum(1, keepdim=True)
    lattice = PermutohedralLattice(features)
    filtered = lattice.filter(values) / lattice.filter(torch.ones_like(values))
    assert (filtered - exact).abs().max() < 0.05
    assert (values - exact).abs().max() > 0.4


@pytest.mark.parametrize("scaled", [False, True])
def test_its_gradient_is_the_transposed_filter_to_the_second_order(scaled: bool) -> None:
    lattice = PermutohedralLattice(draw(2, 12))
    if scaled:
        lattice.scale(draw(12, 1, seed=3)[:, 0], draw(12, 1, seed=4)[:, 0])
    matrix = lattice.filter(torch.eye(12, dtype=torch.float64))
    transposed = lattice.run(torch.eye(12, dtype=torch.float64), transposed=True)
    torch.testing.assert_close(transposed, matrix.T)
    assert not torch.allclose(transposed, matrix)  # where corners are missing the filter is not symmetric
    values = draw(12, 2, seed=5).requires_grad_()
    assert torch.autograd.gradcheck(lattice.filter, values)
    assert torch.autograd.gradgradcheck(lattice.filter, values)


def test_scaling_multiplies_what_goes_in_and_what_comes_out() -> None:
    features, values = draw(3, 30), draw(30, 2, seed=6)
    before, after = draw(30, 1, seed=7)[:, 0], draw(30, 1, seed=8)[:, 0]
    plain, scaled = PermutohedralLattice(features), PermutohedralLattice(features)
    scaled.scale(before, after)
    expected = after[:, None] * plain.filter(before[:, None] * values)
    torch.testing.assert_close(scaled.filter(values), expected)


def test_one_point_keeps_its_value_but_for_what_the_blur_leaves_at_its_corners() -> None:
    features = torch.zeros(2, 1, dtype=torch.float64)
    filtered = PermutohedralLattice(features).filter(torch.tensor([[3.0, -2.0]], dtype=torch.float64))
    # It lies on one corner of a triangle. Along each side in turn a half is added, so that an eighth comes round.
    np.testing.assert_allclose(filtered.numpy(), np.array([[3.0, -2.0]]) * (1 + 1 / 8) / (1 + 1 / 4), rtol=1e-12)


def test_float32_agrees_with_float64() -> None:
    features, values = draw(5, 400), draw(400, 3, seed=9)
    double = PermutohedralLattice(features).filter(values)
    single = PermutohedralLattice(features.float()).filter(values.float())
    torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


def test_a_kernel_too_narrow_to_number_its_corners_is_refused() -> None:
    with pytest.raises(ConfigError, match="too small for the image") as caught:
        PermutohedralLattice(draw(5, 50, spread=1e5))
    assert "larger standard deviations" in caught.value.hint
