"""Recomputation in a training on a CPU: what is cheap to compute again is not kept for the backward pass.

A batch norm keeps its input, and the convolution after it keeps the same map normalised and rectified; autocast keeps
a copy of every weight. In `recomputing`, each map is kept once and weights are not copied: what is missing is computed
when the backward pass asks for it, at the cost of one pass over a map. Checkpointing would run convolutions again too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from atrous.networks.layers.synchronised import count_synchronised

_is_recomputing = ContextVar("is_recomputing", default=False)
"""Whether the code that runs now is inside `recomputing`."""


class Layers(nn.Sequential):
    """Modules in sequence, in which a batch norm and the ReLU after it are one step.

    Shapes:
        in (B, C, h, w); out as the last module returns it.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Return the output of the last module."""
        norm: nn.BatchNorm2d | None = None
        for module in self:
            if norm is not None:
                features = norm_act(norm, module, features)
                norm = None
            elif isinstance(module, nn.BatchNorm2d):
                norm = module
            else:
                features = module(features)
        return features if norm is None else norm(features)


def norm_act(norm: nn.Module, act: nn.Module, features: Tensor) -> Tensor:
    """Return act(norm(features)); inside `recomputing` the backward pass computes it again.

    This applies to a batch norm that learns, followed by ReLU or ReLU6, on a CPU. Other modules, modules with hooks,
    norms whose `lean` is False, and all modules outside `recomputing` run as they are.

    Args:
        norm: The norm.
        act: The activation after it.
        features: Input of the norm.
    Shapes:
        features (B, C, h, w); out (B, C, h, w).
    """
    is_known = isinstance(act, nn.ReLU | nn.ReLU6) and not (_has_hooks(norm) or _has_hooks(act))
    if not (is_known and _can_recompute(norm, features)):
        plain: Tensor = act(norm(features))
        return plain
    norm.num_batches_tracked.add_(1)  # type: ignore[operator]
    ceiling = 6.0 if isinstance(act, nn.ReLU6) else None
    out: Tensor = _NormAct.apply(features, norm.weight, norm.bias, norm, ceiling)
    return out


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _can_recompute(norm: nn.Module, features: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and _is_recomputing.get()
        and type(norm) is nn.BatchNorm2d
        and features.dim() == 4
        and norm.training
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
        and norm.weight.requires_grad
        and features.device.type == "cpu"
        and features[:, :1].numel() > 1  # else the norm itself raises
        and torch.is_grad_enabled()
        and getattr(norm, "lean", True)
        and count_synchronised() == 1
    )


@contextmanager
def recomputing() -> Iterator[None]:
    """Keep less for the backward pass of what runs in here: neither the output of `norm_act` nor autocast's weights.

    Weights and other tensors that the backward pass reads must not change before it: autograd does not notice it here.
    After a backward pass through a part of the network, another pass through that part is not possible.
    """
    cached = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)  # else the copies stay in memory until the forward pass ends
    token = _is_recomputing.set(True)
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, _unpack):
            yield
    finally:
        _is_recomputing.reset(token)
        torch.set_autocast_cache_enabled(cached)


def pack(tensor: Tensor) -> Tensor | Callable[[], Tensor]:
    """Return what `recomputing` keeps instead of a tensor: the tensor itself, or a function that computes it again.

    Args:
        tensor: What autograd would keep for the backward pass.
    Shapes:
        in, out any.
    """
    # Detached: an operation that keeps its own output with its history would never be freed.
    return _find_recipe(tensor.grad_fn, tensor.dtype) or tensor.detach()


def _unpack(kept: Tensor | Callable[[], Tensor]) -> Tensor:
    return kept if isinstance(kept, Tensor) else kept()


def _find_recipe(node: Any, dtype: torch.dtype) -> Callable[[], Tensor] | None:
    """Return a function that computes a node's output again in a dtype; None if that is not cheap.

    PyTorch identifies nodes by name alone. If it renames them, more is kept, and nothing else changes.
    """
    name = "" if node is None else node.name()
    if name == "_NormActBackward":
        return lambda: _compute_output(node, node.saved_tensors).to(dtype)
    if name != "ToCopyBackward0":
        return None
    source = node.next_functions[0][0]
    weight = getattr(source, "variable", None)  # leaves have it
    return _find_recipe(source, dtype) if weight is None else lambda: weight.detach().to(dtype)


class _NormAct(torch.autograd.Function):
    """Batch norm in training and a ReLU, with or without a ceiling; keeps its input, not its output."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d, ceiling: float | None
    ) -> Tensor:
        out, mean, inverse_std = torch.native_batch_norm(
            features, weight, bias, norm.running_mean, norm.running_var, True, norm.momentum or 0.0, norm.eps
        )
        ctx.save_for_backward(features, weight, bias, mean, inverse_std)
        ctx.eps, ctx.ceiling, ctx.output = norm.eps, ceiling, None
        return out.clamp_(min=0, max=ceiling)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: checkpoints count
        out, ctx.output = _compute_output(ctx, saved), None
        features, weight, _, mean, inverse_std = saved
        if ctx.ceiling is None:
            gradient = torch.ops.aten.threshold_backward(gradients[0], out, 0)
        else:
            gradient = torch.ops.aten.hardtanh_backward(gradients[0], out, 0, ctx.ceiling)
        del out  # its memory is reused below
        needed = list(ctx.needs_input_grad[:3])
        of_inputs = torch.ops.aten.native_batch_norm_backward(
            gradient, features, weight, None, None, mean, inverse_std, True, ctx.eps, needed
        )
        return *of_inputs, None, None


@torch.no_grad()
def _compute_output(ctx: Any, saved: tuple[Tensor, ...]) -> Tensor:
    """Return the output of a `_NormAct`, cached until its own backward pass, which comes next."""
    if ctx.output is None:
        features, weight, bias, mean, inverse_std = saved
        variance = inverse_std.square().reciprocal_()
        normalised = torch.native_batch_norm(features, weight, bias, mean, variance, False, 0.0, 0.0)[0]
        ctx.output = normalised.clamp_(min=0, max=ctx.ceiling)
    output: Tensor = ctx.output
    return output
