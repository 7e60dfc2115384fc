"""Averages over the image or over parts of it, and the norm of such averages, which sees few values."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from atrous.networks.contracts import WHOLE, Extent
from atrous.networks.layers.atrous import is_batched
from atrous.networks.layers.conv import ConvNormAct, keeps_plain_form
from atrous.networks.layers.resize import compute_interpolation, multiply_sides
from atrous.networks.layers.synchronised import count_synchronised

FEWEST_VALUES_PER_NORM = 4
"""With fewer values per channel a batch norm is meaningless: with two, its output is +1 and -1 for any input."""


class PooledConvNormAct(ConvNormAct):
    """1x1 convolution, norm and ReLU for maps of few cells, such as one an image.

    If a batch norm sees fewer than `FEWEST_VALUES_PER_NORM` values per channel in training (over all processes, if it
    is synchronised), its running statistics replace those of the batch. An instance norm, if it was put in place of the
    batch norm, is not applied to single cells. Any other norm is applied as it is.

    Shapes:
        in (B, C, h, w); out (B, C', h, w).
    """

    def forward(self, features: Tensor) -> Tensor:
        """Return the activation of the normalised convolution."""
        out: Tensor = self.act(self._normalise(self.conv(features)))
        return out

    def _normalise(self, projected: Tensor) -> Tensor:
        norm: nn.Module = self.norm
        cells = projected.shape[2] * projected.shape[3]
        if isinstance(norm, _InstanceNorm) and cells == 1:
            return projected  # its mean is the value itself: every image would get the same
        values = projected.shape[0] * cells * count_synchronised()
        is_few = norm.training and values < FEWEST_VALUES_PER_NORM
        if not is_few or not isinstance(norm, _BatchNorm) or norm.running_mean is None:
            normalised: Tensor = norm(projected)
            return normalised
        return F.batch_norm(projected, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)


class ImagePooling(PooledConvNormAct):
    """Average over the image, 1x1 convolution, norm, ReLU: one vector per image, at every cell.

    `window` can be set at any time: in evaluation, averages are then taken over all windows of that many cells per side
    that fit in the image, and their map is stretched over it with aligned corners.

    Args:
        in_channels, out_channels: Channels.
    Shapes:
        in (B, C, h, w); out (B, C', h, w).
    Source: Chen et al. 2017 (arXiv 1706.05587), section 3.3; windows as in the authors' TensorFlow code.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self.window: int | None = None

    def forward(self, features: Tensor, extent: Extent = WHOLE) -> Tensor:
        """Return the projected mean of the cells inside the image, or of windows of them."""
        seen = extent.crop(features)
        if self.training or self.window is None:
            is_lean = getattr(self.conv, "lean", True) and features.requires_grad and features.device.type == "cpu"
            is_plain = not is_lean or torch.compiler.is_compiling() or keeps_plain_form(is_training=self.training)
            mean = seen.mean(dim=(2, 3), keepdim=True) if is_plain else _Mean.apply(features, *seen.shape[2:])
            pooled = super().forward(mean)
            return _lay_out_like(features, pooled.expand(-1, -1, *features.shape[2:]))
        pooled = super().forward(_average(seen, partial(_slide, self.window)))
        return _spread(pooled, seen, features, aligned=True)


class PyramidPooling(nn.Module):
    """Averages over grids of several sizes, each projected and interpolated over the map.

    Args:
        in_channels: Channels of the features.
        out_channels: Channels of each grid after its projection.
        bins: Cells along each side of the grids.
    Shapes:
        in (B, C, h, w); out (B, bins * C', h, w).
    Source: Zhao et al. 2017 (arXiv 1612.01105), section 3.2.
    """

    def __init__(self, in_channels: int, out_channels: int, *, bins: tuple[int, ...]) -> None:
        super().__init__()
        self.bins = bins
        self.projections = nn.ModuleList(PooledConvNormAct(in_channels, out_channels) for _ in bins)

    def forward(self, features: Tensor, extent: Extent = WHOLE) -> Tensor:
        """Return the projected averages of each grid; cells outside the image get the nearest value."""
        seen = extent.crop(features)
        grids = []
        for bins, projection in zip(self.bins, self.projections, strict=True):
            pooled = projection(_average(seen, partial(_divide, bins)))
            grids.append(_spread(pooled, seen, features, aligned=False))
        return torch.cat(grids, dim=1)


class _Mean(torch.autograd.Function):
    """The mean of the first rows and columns of a map, (B, C, h, w) -> (B, C, 1, 1), with a gradient like the map.

    PyTorch's own gradient of a mean, and of a part of a map, has the layout (B, C, h, w) in memory. Where it is the
    first of several gradients of the features, their sum has it too, and the rest of the backward pass takes longer.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, rows: int, columns: int) -> Tensor:
        ctx.shape, ctx.rows, ctx.columns = features.shape, rows, columns
        ctx.is_last = features.is_contiguous(memory_format=torch.channels_last)
        return features[:, :, :rows, :columns].mean(dim=(2, 3), keepdim=True)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        shape, rows, columns = ctx.shape, ctx.rows, ctx.columns
        of_cell = gradients[0] / (rows * columns)
        if shape[2:] == (rows, columns):
            return of_cell.expand(shape), None, None  # takes no memory
        if is_batched(of_cell):  # several gradients at a time, which no memory of one takes
            spread = of_cell.expand(*shape[:2], rows, columns)
            return F.pad(spread, (0, shape[3] - columns, 0, shape[2] - rows)), None, None
        layout = torch.channels_last if ctx.is_last else torch.contiguous_format
        out = torch.empty(shape, dtype=of_cell.dtype, device=of_cell.device, memory_format=layout).zero_()
        out[:, :, :rows, :columns] = of_cell
        return out, None, None


def _lay_out_like(features: Tensor, cells: Tensor) -> Tensor:
    """Return cells in the layout of the features, so that what joins both is laid out alike too."""
    is_last = features.is_contiguous(memory_format=torch.channels_last)
    return cells.contiguous(memory_format=torch.channels_last) if is_last else cells


def _slide(window: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the start and stop cells of all windows that fit on a side; of one window if the side is shorter."""
    side = min(window, count)
    starts = torch.arange(count - side + 1, device=device)
    return starts, starts + side


def _divide(bins: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the start and stop cells of the parts of a side; neighbours may share a cell."""
    numbers = torch.arange(bins, device=device)
    return numbers * count // bins, ((numbers + 1) * count + bins - 1) // bins


def _average(features: Tensor, cut: Callable[[int, torch.device], tuple[Tensor, Tensor]]) -> Tensor:
    """Average over a grid of parts, (B, C, h, w) -> (B, C, n, m); `cut` returns the start and stop cells along a side.

    Two matrix products, since an exported graph has no pooling whose windows depend on the size of the map.
    """
    matrices = []
    for count in features.shape[2:]:
        starts, stops = cut(count, features.device)
        cells = torch.arange(count, device=features.device)
        inside = (cells >= starts.unsqueeze(1)) & (cells < stops.unsqueeze(1))  # (n, count)
        matrices.append(inside / (stops - starts).unsqueeze(1))
    return multiply_sides(features, *matrices).to(features.dtype)


def _spread(pooled: Tensor, seen: Tensor, features: Tensor, *, aligned: bool) -> Tensor:
    """Interpolate averages over the cells inside the image; padding gets the nearest value."""
    matrices = []
    for averages, inside, count in zip(pooled.shape[2:], seen.shape[2:], features.shape[2:], strict=True):
        cells = torch.arange(count, dtype=torch.float32, device=pooled.device).clamp(max=inside - 1)
        if aligned:
            at = cells * ((averages - 1) / max(inside - 1, 1))
        else:
            at = (cells + 0.5) * (averages / inside) - 0.5
        matrices.append(compute_interpolation(at, averages))
    return _lay_out_like(features, multiply_sides(pooled, *matrices).to(pooled.dtype))
