"""Atrous convolution in several exact ways: the library's own, by tap, and by phase; forward and both gradients.

*By tap*, each tap is one matrix product over the cells that it sees: what it multiplies with padding is skipped. *By
phase*, a map is divided into the sub-grids of every rate-th cell; on each of them an atrous convolution is a dense one,
for which libraries have fast kernels. The gradient of the features is a convolution with mirrored filters: *mirrored*
is the library's convolution, whose kernels can be faster than those of its gradient. Which way is the fastest depends
on the machine, see `ways`.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Way = Literal["library", "taps", "phases", "mirroring"]
BUFFER_BYTES = 2**24
"""Bytes of features copied at a time by the weight gradient by tap."""
Pair = tuple[int, int]


@dataclass(frozen=True)
class Ways:
    """How each part of a convolution is computed.

    Args:
        output: Its output, not by mirroring.
        of_features: The gradient of its features.
        of_weight: The gradient of its weight, not by mirroring.
    """

    output: Way = "library"
    of_features: Way = "library"
    of_weight: Way = "library"


LIBRARY = Ways()
"""As PyTorch computes it."""


@dataclass(frozen=True)
class Taps:
    """The taps of a centred convolution of stride 1, whose output has the size of its input.

    Args:
        kernel: Height and width of the filter, odd.
        rate: Distance between taps in cells, vertical and horizontal, >= 1.
        groups: Groups of channels. By tap, there can only be one.
    """

    kernel: Pair
    rate: Pair
    groups: int = 1

    @property
    def reach(self) -> Pair:
        """Cells from the centre to the outermost tap, which is the padding."""
        (height, width), (rows, columns) = self.kernel, self.rate
        return rows * (height // 2), columns * (width // 2)

    def compute_seen(self, cells: Pair) -> float:
        """Return the mean share of a map that a tap sees; products with the rest are with padding.

        Args:
            cells: Height and width of the map.
        """
        share = 1.0
        for side, size, rate in zip(cells, self.kernel, self.rate, strict=True):
            share *= sum(count for _, _, count in _list_spans(side, size, rate)) / (size * side)
        return share


def convolve(features: Tensor, weight: Tensor, bias: Tensor | None, taps: Taps, ways: Ways) -> Tensor:
    """Return an atrous convolution; under autocast, computed in autocast's dtype.

    Args:
        features: The input.
        weight: The filters.
        bias: Added to each channel of the output, or None.
        taps: Where the filters read.
        ways: How it is computed.
    Shapes:
        features (B, C, h, w), weight (C', C / groups, kh, kw), bias (C',); out (B, C', h, w).
    """
    dtype = features.dtype
    if torch.is_autocast_enabled(features.device.type) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(features.device.type)
    if not torch.is_grad_enabled():
        return compute_output(features.to(dtype), weight.to(dtype), taps, ways.output, _cast(bias, dtype))
    out: Tensor = _Convolve.apply(features.to(dtype), weight, taps, ways)
    return out if bias is None else out + bias.to(dtype).view(-1, 1, 1)


def _cast(tensor: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    return None if tensor is None else tensor.to(dtype)


class _Convolve(torch.autograd.Function):
    """See `convolve`. The weight may have another dtype than the features."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, taps: Taps, ways: Ways) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.taps, ctx.ways = taps, ways
        return compute_output(features, weight.to(features.dtype), taps, ways.output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        features, weight = ctx.saved_tensors
        with torch.autocast(features.device.type, enabled=False):  # gradients have the dtype of the forward pass
            return *_differentiate_both(ctx, gradients[0], features, weight), None, None


def _differentiate_both(
    ctx: Any, gradient: Tensor, features: Tensor, weight: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of features and weight that `_Convolve` is asked for."""
    narrow, taps = weight.to(features.dtype), ctx.taps
    # With create_graph, the gradients are differentiated in turn. For several at a time, PyTorch has rules for its own
    # functions only, and not for all that write into memory.
    if torch.is_grad_enabled() or is_batched(gradient):
        both = _differentiate(gradient, features, narrow, taps, ctx.needs_input_grad[:2])
        return both[0], _cast(both[1], weight.dtype)
    of_features = of_weight = None
    if ctx.needs_input_grad[1]:  # first, before the other gradient takes memory
        of_weight = differentiate_weight(gradient, features, weight, taps, ctx.ways.of_weight)
    if ctx.needs_input_grad[0]:
        of_features = differentiate_features(gradient, features, narrow, taps, ctx.ways.of_features)
    return of_features, of_weight


def is_batched(gradient: Tensor) -> bool:
    """Return whether a gradient stands for several at a time, as in `torch.autograd.grad(..., is_grads_batched=True)`.

    Args:
        gradient: What a backward pass gets.
    Shapes:
        gradient any.
    """
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.is_batchedtensor(gradient) or torch._C._functorch.is_legacy_batchedtensor(gradient)


def compute_output(features: Tensor, weight: Tensor, taps: Taps, way: Way, bias: Tensor | None = None) -> Tensor:
    """Return the output.

    Args:
        features: The input.
        weight: The filters, in the dtype of the input.
        taps: Where the filters read.
        way: How it is computed.
        bias: Added to each channel, in the same dtype.
    Shapes:
        As for `convolve`.
    """
    if way == "taps":
        return _sum_taps(features, weight, taps, bias)
    if way == "phases":
        dense = F.conv2d(_split(features, taps), weight, bias, padding=_halve(taps.kernel), groups=taps.groups)
        return _join(dense, features.shape, taps)
    return F.conv2d(features, weight, bias, padding=taps.reach, dilation=taps.rate, groups=taps.groups)


def differentiate_features(gradient: Tensor, features: Tensor, weight: Tensor, taps: Taps, way: Way) -> Tensor:
    """Return the gradient of the features.

    Args:
        gradient: That of the output.
        features: The input, whose values are not needed.
        weight: The filters, in the dtype of the gradient.
        taps: Where the filters read.
        way: How it is computed.
    Shapes:
        As for `convolve`.
    """
    if way == "library":
        return _differentiate(gradient, features, weight, taps, (True, False))[0]  # type: ignore[return-value]
    return compute_output(gradient, _mirror(weight, taps.groups), taps, "library" if way == "mirroring" else way)


def differentiate_weight(gradient: Tensor, features: Tensor, weight: Tensor, taps: Taps, way: Way) -> Tensor:
    """Return the gradient of the weight, in the dtype of the weight.

    Args:
        gradient: That of the output.
        features: The input.
        weight: The filters, whose values are not needed.
        taps: Where the filters read.
        way: How it is computed.
    Shapes:
        As for `convolve`.
    """
    if way == "taps":
        return _sum_products(gradient, features, weight, taps)
    narrow = weight.to(features.dtype)
    if way == "phases":
        gradient, features, taps = _split(gradient, taps), _split(features, taps), _make_dense(taps)
    return _differentiate(gradient, features, narrow, taps, (False, True))[1].to(weight.dtype)  # type: ignore[union-attr]


def _differentiate(
    gradient: Tensor, features: Tensor, weight: Tensor, taps: Taps, wanted: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the library's gradients of features and weight, those that are wanted."""
    place = ([1, 1], taps.reach, taps.rate, False, [0, 0], taps.groups)  # stride, padding, rate, not transposed, groups
    both = torch.ops.aten.convolution_backward(gradient, features, weight, None, *place, [*wanted, False])
    return both[0], both[1]


def _mirror(weight: Tensor, groups: int) -> Tensor:
    """Return the filters that turn a gradient of the output into that of the features, (C, C' / groups, kh, kw)."""
    by_group = weight.flip(2, 3).reshape(groups, -1, *weight.shape[1:])
    return by_group.transpose(1, 2).flatten(0, 1)


def _make_dense(taps: Taps) -> Taps:
    return Taps(taps.kernel, (1, 1), taps.groups)


def _halve(kernel: Pair) -> Pair:
    return kernel[0] // 2, kernel[1] // 2


def _split(features: Tensor, taps: Taps) -> Tensor:
    """Return the phases of a map, each as an image of its own, with zeros where a phase has a cell less than others.

    Shapes:
        in (B, C, h, w); out (rate * rate * B, C, ceil(h / rate), ceil(w / rate)), channels last.
    """
    batch, channels, height, width = features.shape
    (rows, columns), cells = taps.rate, features.permute(0, 2, 3, 1)
    grid = (-(-height // rows), -(-width // columns))
    phases = features.new_empty(rows, columns, batch, *grid, channels)
    for row, column in itertools.product(range(rows), range(columns)):
        phase, seen = phases[row, column], cells[:, row::rows, column::columns]
        if seen.shape[1:3] != phase.shape[1:3]:
            phase.zero_()
        phase[:, : seen.shape[1], : seen.shape[2]] = seen
    return phases.flatten(0, 2).permute(0, 3, 1, 2)


def _join(phases: Tensor, shape: torch.Size, taps: Taps) -> Tensor:
    """Return the map (B, C, h, w) with these phases; B, h and w are those of `shape`."""
    (rows, columns), channels = taps.rate, phases.shape[1]
    out = _allocate(phases, (shape[0], channels, shape[2], shape[3]))
    split = phases.permute(0, 2, 3, 1).view(rows, columns, shape[0], *phases.shape[2:], channels)
    for row, column in itertools.product(range(rows), range(columns)):
        cells = out.permute(0, 2, 3, 1)[:, row::rows, column::columns]
        cells.copy_(split[row, column, :, : cells.shape[1], : cells.shape[2]])
    return out


def _allocate(like: Tensor, shape: tuple[int, int, int, int]) -> Tensor:
    """Return memory, channels last. It is no view of other memory: autograd lets nothing write into those."""
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _sum_taps(features: Tensor, weight: Tensor, taps: Taps, bias: Tensor | None) -> Tensor:
    """Return the output (B, C', h, w) as a sum over taps, channels last.

    In bf16 the sum is rounded after each tap, so its error is up to twice that of a sum that is rounded once.
    """
    (batch, channels, height, width), filters = features.shape, weight.shape[0]
    rows, columns = (
        _list_spans(cells, size, rate)
        for cells, size, rate in zip((height, width), taps.kernel, taps.rate, strict=True)
    )
    by_tap = weight.permute(2, 3, 1, 0).contiguous()  # nothing is copied of filters from `lay_out_by_tap`
    cells_last = features.permute(0, 2, 3, 1)
    out = _allocate(features, (batch, filters, height, width))
    out_cells = out.permute(0, 2, 3, 1)
    out_cells.copy_(out.new_zeros(()) if bias is None else bias)
    for column, (from_left, to_left, seen) in enumerate(columns):
        if not seen:
            continue
        read = cells_last[:, :, from_left : from_left + seen].contiguous()
        # What whole rows of cells add goes into the output itself, other columns first into contiguous memory.
        written = out_cells if seen == width else out.new_zeros(batch, height, seen, filters)
        for row, (from_top, to_top, count) in enumerate(rows):
            for image in range(batch if count else 0):
                target = written[image, to_top : to_top + count].view(-1, filters)
                source = read[image, from_top : from_top + count].view(-1, channels)
                torch.addmm(target, source, by_tap[row, column], out=target)
        if written is not out_cells:
            out_cells[:, :, to_left : to_left + seen] += written
    return out


def lay_out_by_tap(weight: Tensor) -> Tensor:
    """Return filters that are stored as the products by tap read them, so that these need no copy of them.

    Args:
        weight: The filters.
    Shapes:
        in and out (C', C, kh, kw).
    """
    return weight.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)


def _sum_products(gradient: Tensor, features: Tensor, weight: Tensor, taps: Taps) -> Tensor:
    """Return the gradient of the weight, each tap a product of the cells that it sees, in the dtype of the weight."""
    rows, columns = (
        _list_spans(cells, size, rate)
        for cells, size, rate in zip(features.shape[2:], taps.kernel, taps.rate, strict=True)
    )
    out = torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32))
    images = max(1, BUFFER_BYTES // (features[0].numel() * features.element_size()))
    for inputs, outputs in zip(torch.split(features, images), torch.split(gradient, images), strict=True):
        # The columns of an image are copied into contiguous memory, whose rows need no further copy for the products;
        # into the same buffer each time, since blocks of several sizes would fragment the heap.
        input_buffer, output_buffer = inputs.new_empty(inputs.numel()), outputs.new_empty(outputs.numel())
        for column, (from_left, to_left, width) in enumerate(columns):
            if not width:
                continue
            read_columns = _copy_columns(inputs, from_left, width, input_buffer)
            written_columns = _copy_columns(outputs, to_left, width, output_buffer)
            for row, (from_top, to_top, height) in enumerate(rows):
                if height:
                    read = read_columns[:, from_top : from_top + height].flatten(1, 2)  # (B, cells, C)
                    written = written_columns[:, to_top : to_top + height].flatten(1, 2)  # (B, cells, C')
                    products = torch.bmm(written.transpose(1, 2), read)
                    out[:, :, row, column] += products.sum(dim=0, dtype=out.dtype)
    return out.to(weight.dtype)


def _copy_columns(features: Tensor, start: int, width: int, buffer: Tensor) -> Tensor:
    """Return columns of (B, C, h, w) in a buffer, channels last: (B, h, width, C)."""
    columns = features[..., start : start + width].permute(0, 2, 3, 1)
    return buffer[: columns.numel()].view(columns.shape).copy_(columns)


def _list_spans(cells: int, size: int, rate: int) -> list[tuple[int, int, int]]:
    """Return, for each tap along a side, the first cell it reads, the first it contributes to, and how many it sees."""
    offsets = [(tap - size // 2) * rate for tap in range(size)]
    return [(max(offset, 0), max(-offset, 0), max(cells - abs(offset), 0)) for offset in offsets]
