"""Atrous convolution whose weight gradient is computed one tap at a time, over the cells where the tap sees the map.

At a rate near the size of the map, most products of the side taps are with padding. oneDNN skips them in the output and
in the gradient of the features, but not in that of the weight. Here each tap is one matrix product over the cells that
it sees: at rate 36 on 65 x 65 cells this is four times as fast in bf16 and three times in fp32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MOST_SEEN = 0.8
"""Mean share of the map that a tap sees, above which oneDNN's gradient is as fast as products by tap."""
BUFFER_BYTES = 2**24
"""Bytes of features copied at a time."""


def taps_miss_map(conv: nn.Conv2d, features: Tensor) -> bool:
    """Return whether the taps of a convolution miss so much of a map on a CPU that products by tap are faster.

    Args:
        conv: The convolution.
        features: Its input, (B, C, h, w).
    """
    centred = tuple(rate * (size // 2) for size, rate in zip(conv.kernel_size, conv.dilation, strict=True))
    if features.device.type != "cpu" or features.dim() != 4 or features.numel() == 0:
        return False
    if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():
        return False  # torch.func cannot transform an autograd function that has no rules for it
    if conv.groups > 1 or conv.stride != (1, 1) or conv.padding != centred or conv.padding_mode != "zeros":
        return False
    seen = 1.0
    for cells, size, rate in zip(features.shape[2:], conv.kernel_size, conv.dilation, strict=True):
        if size % 2 == 0:
            return False
        seen *= sum(count for _, _, count in _list_spans(cells, size, rate)) / (size * cells)
    return seen <= MOST_SEEN


def convolve_by_taps(features: Tensor, weight: Tensor, bias: Tensor | None, rate: tuple[int, ...]) -> Tensor:
    """Return a centred convolution of stride 1; under autocast, computed in autocast's dtype.

    Args:
        features: The input.
        weight: The filters, with odd sides.
        bias: Added to each channel of the output, or None.
        rate: Distance between taps in cells, vertical and horizontal.
    Shapes:
        features (B, C, h, w), weight (C', C, kh, kw), bias (C',); out (B, C', h, w).
    """
    dtype = features.dtype
    if torch.is_autocast_enabled(features.device.type) and dtype != torch.float64:
        dtype = torch.get_autocast_dtype(features.device.type)
    out: Tensor = _ConvolveByTaps.apply(features.to(dtype), weight, rate)
    return out if bias is None else out + bias.to(dtype).view(-1, 1, 1)


class _ConvolveByTaps(torch.autograd.Function):
    """See `convolve_by_taps`."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, rate: tuple[int, ...]) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.rate = rate
        ctx.padding = tuple(r * (size // 2) for r, size in zip(rate, weight.shape[2:], strict=True))
        return F.conv2d(features, weight.to(features.dtype), padding=ctx.padding, dilation=rate)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        place = ([1, 1], ctx.padding, ctx.rate, False, [0, 0], 1)  # stride, padding, rate, not transposed, groups
        if torch.is_grad_enabled():  # create_graph: the gradients are differentiated in turn
            narrow, wanted = weight.to(features.dtype), [*ctx.needs_input_grad[:2], False]
            both = torch.ops.aten.convolution_backward(gradients[0], features, narrow, None, *place, wanted)
            return both[0], None if both[1] is None else both[1].to(weight.dtype), None
        of_features = of_weight = None
        if ctx.needs_input_grad[1]:  # first, before the other gradient takes memory
            of_weight = _differentiate_weight(features, gradients[0], weight, ctx.rate)
        if ctx.needs_input_grad[0]:
            narrow = weight.to(features.dtype)
            of_features = torch.ops.aten.convolution_backward(
                gradients[0], features, narrow, None, *place, [True, False, False]
            )[0]
        return of_features, of_weight, None


def _differentiate_weight(features: Tensor, gradient: Tensor, weight: Tensor, rate: tuple[int, ...]) -> Tensor:
    """Return the gradient of the weight, in the dtype of the weight, from that of the output."""
    rows, columns = (
        _list_spans(cells, size, r) for cells, size, r in zip(features.shape[2:], weight.shape[2:], rate, strict=True)
    )
    out = torch.zeros_like(weight)
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
                    out[:, :, row, column] += products.sum(dim=0, dtype=weight.dtype)
    return out


def _copy_columns(features: Tensor, start: int, width: int, buffer: Tensor) -> Tensor:
    """Return columns of (B, C, h, w) in a buffer, channels last: (B, h, width, C)."""
    columns = features[..., start : start + width].permute(0, 2, 3, 1)
    return buffer[: columns.numel()].view(columns.shape).copy_(columns)


def _list_spans(cells: int, size: int, rate: int) -> list[tuple[int, int, int]]:
    """Return, for each tap along a side, the first cell it reads, the first it contributes to, and how many it sees."""
    offsets = [(tap - size // 2) * rate for tap in range(size)]
    return [(max(offset, 0), max(-offset, 0), max(cells - abs(offset), 0)) for offset in offsets]
