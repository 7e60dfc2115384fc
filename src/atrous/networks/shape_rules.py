"""Shapes of common operations on the meta device, without PyTorch's own rules for them.

Those are Python code, and their import takes longer than reading a model. An operation that is not listed here, or that
would fail, is left to PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.modules.utils import _pair
from torch.overrides import TorchFunctionMode


class ShapeRules(TorchFunctionMode):
    """Within the block, common operations on tensors of the meta device give their shapes by the rules below."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        rule = _SHAPE_RULES.get(func)
        output = rule(*args, **(kwargs or {})) if rule is not None else None
        return func(*args, **(kwargs or {})) if output is None else output


def _count_places(side: int, size: int, step: int, pad: int, rate: int, *, ceil: bool = False) -> int:
    """Return how many places a window has on a padded side."""
    span = side + 2 * pad - rate * (size - 1) - 1
    places = (-(-span // step) if ceil else span // step) + 1
    return places - 1 if ceil and (places - 1) * step >= side + pad else places  # none begins in the padding behind


def _slide(image: Tensor, channels: int, *windows: Any, ceil: bool = False) -> Tensor | None:
    """Return a map of the shape that a window gives; None if there is none, and PyTorch has to say why."""
    pairs = zip(image.shape[2:], *map(_pair, windows), strict=True)
    sides = [_count_places(*pair, ceil=ceil) for pair in pairs]
    return image.new_empty(image.shape[0], channels, *sides) if min(sides) > 0 else None


def _convolve(
    image: Tensor,
    weight: Tensor,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    if isinstance(padding, str) or image.dim() != 4 or image.shape[1] != weight.shape[1] * groups:
        return None
    return _slide(image, len(weight), tuple(weight.shape[2:]), stride, padding, dilation)


def _pool(
    image: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | None:
    if return_indices or image.dim() != 4:
        return None
    return _slide(image, image.shape[1], kernel_size, stride or kernel_size, padding, dilation, ceil=ceil_mode)


def _keep(image: Tensor, *_: Any, **__: Any) -> Tensor:
    return image


def _combine(one: Tensor, other: Any, *_: Any, **__: Any) -> Tensor | None:
    """Return the first of two maps whose sum or product has its shape."""
    fits = isinstance(other, Tensor) and one.dim() == other.dim()
    fits = fits and all(side in (1, whole) for side, whole in zip(other.shape, one.shape, strict=True))
    return one if fits else None


def _average(image: Tensor, dim: Any = None, keepdim: bool = False, **_: Any) -> Tensor | None:
    if image.dim() != 4 or not keepdim or dim not in ((2, 3), [2, 3], (-2, -1), [-2, -1]):
        return None
    return image.new_empty(*image.shape[:2], 1, 1)


_SHAPE_RULES: dict[Any, Callable[..., Tensor | None]] = {
    torch.conv2d: _convolve,
    functional.max_pool2d: _pool,
    torch.Tensor.mean: _average,
    **dict.fromkeys((torch.Tensor.add, torch.Tensor.__add__, torch.Tensor.add_, torch.Tensor.__iadd__), _combine),
    **dict.fromkeys((torch.Tensor.mul, torch.Tensor.__mul__, torch.Tensor.mul_, torch.Tensor.__imul__), _combine),
    **dict.fromkeys((functional.batch_norm, functional.relu, functional.relu6, functional.hardtanh), _keep),
    **dict.fromkeys((functional.hardsigmoid, functional.hardswish, functional.silu), _keep),
}
