"""Gaussian filtering of values at points in a high-dimensional space, in linear time, independent of images."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from atrous.core.errors import ConfigError


class _Rows(NamedTuple):
    """A sparse matrix. The entries offsets[r] to offsets[r + 1] of `columns` and `weights` belong to row r.

    Shapes:
        offsets (R + 1,), columns (Z,), weights (Z,), for R rows and Z entries.
    """

    offsets: Tensor
    columns: Tensor
    weights: Tensor

    def multiply(self, values: Tensor) -> Tensor:
        """Return the product (R, K) with values (columns, K).

        An embedding bag computes a weighted sum of rows, several times faster than torch's product with a compressed
        sparse matrix.
        """
        return F.embedding_bag(
            self.columns,
            values,
            self.offsets,
            mode="sum",
            per_sample_weights=self.weights.to(values.dtype),
            include_last_offset=True,
        )


class PermutohedralLattice:
    """A sparse grid of simplices in the space of the features, and the Gaussian filter on it.

    Each value is distributed to the d + 1 corners of the simplex around its point (splat), neighbouring corners are
    mixed along each of the d + 1 axes of the lattice (blur), and each point interpolates its corners (slice). The
    result approximates the sum over all points with weights exp(-|f - g|^2 / 2). Only corners of non-empty simplices
    are stored.

    Args:
        features: Positions of the values, in standard deviations of the Gaussian; finite floats.
    Shapes:
        features (d, N) for N points of d dimensions.
    Raises:
        ConfigError: The features span too many corners to be numbered.
    Source: Adams, Baek, Davis 2010, "Fast High-Dimensional Filtering Using the Permutohedral Lattice"; the scale of
        the slice follows the reference implementation of Krähenbühl and Koltun 2011.
    """

    def __init__(self, features: Tensor) -> None:
        num_axes, num_values = len(features) + 1, features.shape[1]
        remainders, ranks, shares = _find_simplices(features)
        keys, steps = _number_corners(remainders, ranks)
        ordered, order = keys.flatten().sort(stable=True)
        first = torch.ones_like(ordered, dtype=torch.bool)
        torch.ne(ordered[1:], ordered[:-1], out=first[1:])
        points = ordered[first]
        corners = torch.empty_like(keys, dtype=torch.int32)
        corners.view(-1)[order] = first.cumsum(0, dtype=torch.int32) - 1
        self.num_points = len(points)
        starts = F.pad(first.nonzero()[:, 0], (0, 1), value=keys.numel()).int()
        splat = _Rows(starts, (order % num_values).int(), shares.flatten()[order])
        starts = torch.arange(0, keys.numel() + 1, num_axes, dtype=torch.int32, device=keys.device)
        slicing = _Rows(starts, corners.T.flatten(), shares.T.flatten() / (1 + 2.0 ** -len(features)))
        self._splats, self._slices = [splat, splat], [slicing, slicing]  # of the filter, and of its transpose
        self._blurs = [_link_neighbours(points, step, features.dtype) for step in steps]

    def scale(self, before: Tensor, after: Tensor) -> None:
        """Scale the filter.

        Args:
            before: Factors of the values.
            after: Factors of the results.
        Shapes:
            before (N,), after (N,).
        """
        num_axes = len(self._blurs)
        self._splats = [
            rows._replace(weights=rows.weights * factor[rows.columns])
            for rows, factor in zip(self._splats, (before, after), strict=True)
        ]
        self._slices = [
            rows._replace(weights=rows.weights * factor.repeat_interleave(num_axes))
            for rows, factor in zip(self._slices, (after, before), strict=True)
        ]

    def filter(self, values: Tensor) -> Tensor:
        """Return the filtered values. The result is differentiable with respect to the values.

        Shapes:
            in (N, K), out (N, K).
        """
        return _Filter.apply(values, self, False)  # type: ignore[no-any-return]

    def run(self, values: Tensor, *, transposed: bool) -> Tensor:
        """Splat, blur and slice.

        Where corners are missing, the result depends on the order of the axes, so the transpose reverses it.

        Args:
            values: Values of the points, (N, K).
            transposed: Whether to apply the transposed filter.
        Returns: The filtered values, (N, K).
        """
        mixed = self._splats[transposed].multiply(values.contiguous())
        for blur in reversed(self._blurs) if transposed else self._blurs:
            mixed = blur.multiply(mixed)
        return self._slices[transposed].multiply(mixed)


class _Filter(torch.autograd.Function):
    """Autograd function of the filter: its gradient is the transposed filter, since it is linear; nothing is saved."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, *inputs: object) -> Tensor:
        values, ctx.lattice, ctx.transposed = inputs  # type: ignore[attr-defined]
        return ctx.lattice.run(values.detach(), transposed=ctx.transposed)  # type: ignore[attr-defined, no-any-return]

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return _Filter.apply(gradients[0], ctx.lattice, not ctx.transposed), None, None  # type: ignore[attr-defined]


def _find_simplices(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the simplex of each point and its barycentric weights.

    Shapes:
        in (d, N); out: the simplex's corner of colour 0 divided by d + 1, (d + 1, N) integers; ranks of the coordinates
        by their distance from it, largest first, (d + 1, N) int8; weights of the corners by colour, (d + 1, N).
    """
    num_features, num_values = features.shape
    size = num_features + 1
    # A blur of (1/2, 1, 1/2) along each axis has this standard deviation in units of the lattice. Whether a corner with
    # a weight near 0 exists depends on the last bit, so all numbers are rounded as in the reference implementation.
    unit = float(features.new_tensor(math.sqrt(2 / 3) * size))
    elevated = features.new_empty(size, num_values)
    rest = features.new_zeros(num_values)
    for axis in range(num_features, 0, -1):
        scaled = features[axis - 1] * (unit / math.sqrt(axis * (axis + 1)))
        elevated[axis] = rest - axis * scaled
        rest = rest + scaled
    elevated[0] = rest
    corner = (elevated * (1 / size)).round()
    distance = elevated - corner * size
    ranks = torch.zeros_like(elevated, dtype=torch.int8)
    for axis in range(size):
        for other in range(axis + 1, size):
            behind = distance[axis] < distance[other]
            ranks[axis] += behind
            ranks[other] += ~behind
    # Rounding may violate the constraint that coordinates sum to 0; adjusting the outermost ones restores it.
    ranks += corner.sum(0).to(torch.int8)
    back = (ranks < 0).to(torch.int8) - (ranks >= size).to(torch.int8)
    ranks += back * size
    corner += back
    ordered = torch.empty_like(elevated).scatter_(0, ranks.long(), (elevated - corner * size) / size)  # largest first
    shares = torch.empty_like(elevated)
    shares[0] = 1 + ordered[-1] - ordered[0]
    shares[1:] = (ordered[:-1] - ordered[1:]).flip(0)
    return corner.long(), ranks, shares


def _number_corners(corner: Tensor, ranks: Tensor) -> tuple[Tensor, list[int]]:
    """Assign a number to each corner so that neighbours along an axis differ by a constant step.

    Shapes:
        in (d + 1, N) twice; out numbers (d + 1, N) by colour, and the steps of the d + 1 axes.
    Raises:
        ConfigError: There are more corners than 63-bit integers can number.
    """
    size = len(corner)
    smallest = corner[:-1].amin(1) - 2  # room for the other corners and their neighbours
    spans = ((corner[:-1].amax(1) + 2 - smallest) * size + 1).tolist()
    if math.prod(spans) >= 2**63:
        raise ConfigError(
            "a standard deviation of the kernel is too small for the image: its lattice has too many corners",
            "Give larger standard deviations.",
        )
    places = [math.prod(spans[axis + 1 :]) for axis in range(size - 1)] + [0]
    place = torch.tensor(places, device=corner.device)
    by_rank = torch.empty_like(corner).scatter_(0, ranks.long(), place[:, None].expand_as(corner))
    numbers = torch.empty_like(corner)
    numbers[0] = ((corner[:-1] - smallest[:, None]) * place[:-1, None]).sum(0) * size
    for colour in range(1, size):
        # The next colour is one step further along every axis, except for one axis, where it is d steps back.
        numbers[colour] = numbers[colour - 1] + sum(places) - size * by_rank[size - colour]
    return numbers, [size * step - sum(places) for step in places]


def _link_neighbours(points: Tensor, step: int, dtype: torch.dtype) -> _Rows:
    """Return the blur along one axis, which adds half of each existing neighbour to a point.

    Shapes:
        points (M,) numbers, sorted.
    """
    place = torch.searchsorted(points, points + step).clamp_(max=len(points) - 1)
    before = (points[place] == points + step).nonzero()[:, 0]
    after = place[before]
    num_columns = torch.ones_like(points, dtype=torch.int32)
    num_columns[before] += 1
    num_columns[after] += 1
    offsets = F.pad(num_columns.cumsum(0, dtype=torch.int32), (1, 0))
    # A row contains the point itself, then its predecessor, then its successor, if they exist.
    columns = torch.empty(len(points) + 2 * len(before), dtype=torch.int32, device=points.device)
    columns[offsets[:-1]] = torch.arange(len(points), dtype=torch.int32, device=points.device)
    columns[offsets[after] + 1] = before.int()
    columns[offsets[before + 1] - 1] = after.int()
    weights = torch.full_like(columns, 0.5, dtype=dtype)
    weights[offsets[:-1]] = 1
    return _Rows(offsets, columns, weights)
