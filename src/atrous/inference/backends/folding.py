"""Copies of a network that are made to be run, not trained, their batch norms folded into the convolutions before."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.nn.utils.parametrize import is_parametrized

from atrous.networks.layers.atrous import lay_out_by_tap
from atrous.networks.layers.conv import Conv
from atrous.networks.layers.ways import is_always_by_tap
from atrous.networks.segmenter import Segmenter

PROBE_SIDE = 33


@torch.inference_mode(False)
def fold_norms(
    network: Segmenter,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
) -> Segmenter:
    """Return a copy in evaluation mode that computes the same, to rounding, with fewer passes over memory.

    A norm is folded into the convolution before it if nothing else reads that convolution; other norms stay as they
    are. The copy has the channels-last layout, and the network's own hooks and parametrisations.

    Args:
        network: The network, which is left as it is.
        device: Where the copy lies.
        dtype: The type of the copy's convolutions.
        pairs: Convolutions and their norms, from `find_pairs`. Default: found here.
    """
    folded = copy_network(network).float()  # of a network in another precision, its rounded weights
    modules: dict[str, Any] = dict(folded.named_modules())
    for conv_name, norm_name in find_pairs(network) if pairs is None else pairs:
        conv, norm = modules[conv_name], modules[norm_name]
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        parent, _, name = norm_name.rpartition(".")
        # norms of timm contain the activation that follows them
        setattr(modules[parent], name, nn.Sequential(norm.drop, norm.act) if hasattr(norm, "act") else nn.Identity())
    for module in folded.modules():
        if isinstance(module, nn.Conv2d):
            module.to(dtype)
    placed: Segmenter = folded.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module in placed.modules():
        if not isinstance(module, Conv) or "weight" not in module._parameters:
            continue  # weights that are computed from others, as of pruning, are laid out at each call
        if device.type == "cpu" and is_always_by_tap(module, dtype):
            module.weight = nn.Parameter(lay_out_by_tap(module.weight.detach()), requires_grad=False)
    return placed


@torch.inference_mode(False)
def copy_network(network: Segmenter, *, share_weights: bool = False, keep_hooks: bool = True) -> Segmenter:
    """Return a copy of a network that does not learn.

    Args:
        network: The network, which is left as it is.
        share_weights: Whether the copy's weights are the network's own, in the same memory.
        keep_hooks: Whether the copy calls the network's own hooks, as predictions must; otherwise it has none.
    """
    memo: dict[int, Any] = {}
    for module in network.modules():
        for hook in (*module._forward_pre_hooks.values(), *module._forward_hooks.values()):
            memo[id(hook)] = hook
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:  # as pruning leaves it; Python refuses to copy it
                memo[id(value)] = value.detach().clone()
    if share_weights:
        memo |= {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    twin = copy.deepcopy(network, memo)
    for module in twin.modules() if not keep_hooks else ():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return twin if share_weights else twin.requires_grad_(False)


@torch.inference_mode(False)
def find_pairs(network: Segmenter) -> list[tuple[str, str]]:
    """Return the names of convolutions, each with the name of the norm that alone reads its output.

    A forward pass over a small image records the graph through which gradients would flow back, which shows what reads
    what. A convolution or norm with a hook or a parametrisation is skipped: folding would change what a hook sees.
    """
    twin = copy_network(network, keep_hooks=False).cpu().eval()  # a hook should see predictions alone
    twin.requires_grad_(True)
    kept = {name for name, module in network.named_modules() if _is_observed(module)}
    made_by: dict[Any, str] = {}
    read_by: dict[str, Any] = {}

    def note_conv(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            made_by[output.grad_fn] = name

        return hook

    def note_norm(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            read_by[name] = inputs[0].grad_fn

        return hook

    for name, module in twin.named_modules():
        if name in kept:
            continue
        if type(module) is nn.BatchNorm2d or type(module).__name__ == "BatchNormAct2d":
            module.register_forward_pre_hook(note_norm(name))
        elif isinstance(module, nn.Conv2d):
            module.register_forward_hook(note_conv(name))
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        cells = twin.forward_cells(torch.zeros(1, twin.input_spec.channels, PROBE_SIDE, PROBE_SIDE))
    readers = _count_readers(cells.logits.grad_fn)
    return [(made_by[source], norm) for norm, source in read_by.items() if source in made_by and readers[source] == 1]


def _is_observed(module: nn.Module) -> bool:
    """Return whether a module has hooks, or weights that are computed from others."""
    return bool(module._forward_pre_hooks or module._forward_hooks) or is_parametrized(module)


def _count_readers(last: Any) -> Counter[Any]:
    """Return how many operations of a gradient's graph read the result of each operation."""
    readers: Counter[Any] = Counter()
    seen, waiting = {last}, [last]
    while waiting:
        for source, _ in waiting.pop().next_functions:
            if source is not None:
                readers[source] += 1
                if source not in seen:
                    seen.add(source)
                    waiting.append(source)
    return readers
