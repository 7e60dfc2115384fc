"""Batch norm over the images of all processes that make a training step together.

torch's `SyncBatchNorm` is a module for CUDA alone, and would replace the modules of a network. In `synchronising`,
every batch norm that learns is computed with the statistics of all processes, whichever module calls it: on CUDA by
torch's own function, elsewhere by the one in this file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules._functions import SyncBatchNorm
from torch.overrides import TorchFunctionMode

_num_processes = ContextVar("num_processes", default=1)
"""Processes over whose images batch norms are computed now."""


def count_synchronised() -> int:
    """Return over how many processes a batch norm is computed that learns: 1 outside `synchronising`."""
    return _num_processes.get()


@contextmanager
def synchronising() -> Iterator[None]:
    """Compute the batch norms that learn over all processes of torch.distributed's default group.

    Every process runs the same network inside the block, and the backward pass afterwards, which may be outside. How
    many images each has may differ. A process alone computes them as usual.
    """
    processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    token = _num_processes.set(processes)
    try:
        with _Intercepting() if processes > 1 else nullcontext():
            yield
    finally:
        _num_processes.reset(token)


class _Intercepting(TorchFunctionMode):
    """Passes every function of torch on, but for a batch norm that learns."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm and kwargs.get("training"):
            return _normalise(*args, **kwargs)
        return func(*args, **kwargs)


def _normalise(
    features: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Compute `F.batch_norm` in training, with the statistics of all processes."""
    if features.device.type == "cuda":
        group, processes = torch.distributed.group.WORLD, count_synchronised()
        statistics = running_mean, running_var
        out: Tensor = SyncBatchNorm.apply(features, weight, bias, *statistics, eps, momentum, group, processes)
        return out
    out = _ReducedNorm.apply(features, weight, bias, running_mean, running_var, momentum, eps)
    return out


class _ReducedNorm(torch.autograd.Function):
    """Batch norm in training whose sums are those of all processes, forward and backward."""

    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
    ) -> Tensor:
        count, mean, variance = _reduce_statistics(features)
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            unbiased = variance * (count / max(count - 1, 1))
            running_var.lerp_(unbiased.to(running_var.dtype), momentum)
        dtype = torch.promote_types(features.dtype, torch.float32)
        mean, variance = mean.to(dtype), variance.to(dtype)
        ctx.save_for_backward(features, weight, mean, variance)
        ctx.count, ctx.eps = count, eps
        return torch.native_batch_norm(features, weight, bias, mean, variance, False, 0.0, eps)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, mean, variance = ctx.saved_tensors
        inverse_std = (variance + ctx.eps).rsqrt_()
        # With constant statistics, this gives the gradients of weight and bias, and a part of that of the input.
        direct, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradients[0], features, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack([of_weight, of_bias]).double()
        torch.distributed.all_reduce(sums)
        through_std, through_mean = (sums / ctx.count).to(mean.dtype)
        scale = inverse_std if weight is None else inverse_std * weight
        slope = scale * inverse_std * through_std
        shift = scale * through_mean - slope * mean
        slope, shift = (each.view(1, -1, *[1] * (features.dim() - 2)) for each in (slope, shift))
        of_features = torch.addcmul(direct - shift, features.to(mean.dtype), slope, value=-1).to(features.dtype)
        return of_features, None if weight is None else of_weight, None if weight is None else of_bias, *[None] * 4


def _reduce_statistics(features: Tensor) -> tuple[float, Tensor, Tensor]:
    """Return how many values a channel has in all processes, their mean and their variance, float64 (C,)."""
    axes = [0, *range(2, features.dim())]
    own = features.numel() // features.shape[1]
    widened = features.to(torch.promote_types(features.dtype, torch.float32))
    variance, mean = (each.double() for each in torch.var_mean(widened, axes, correction=0))
    # In float64 the difference of squares below does not cancel.
    sums = torch.stack([torch.full_like(mean, own), own * mean, own * (variance + mean.square())])
    torch.distributed.all_reduce(sums)
    count = sums[0, 0].item()
    mean = sums[1] / count
    return count, mean, (sums[2] / count - mean.square()).clamp_(min=0)
