"""A network made ready to be run and not trained: a copy whose batch norms are folded into the convolutions before."""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from atrous.networks.segmenter import Segmenter

PROBE_SIDE = 33
Variant = tuple[torch.device, torch.dtype]


@dataclass
class _Folded:
    """What is kept of a living network: who reads whom, and copies of its weights as they were at some moment."""

    pairs: list[tuple[str, str]]
    moment: tuple[int, ...] = ()
    copies: dict[Variant, Segmenter] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


_FOLDED: WeakKeyDictionary[Segmenter, _Folded] = WeakKeyDictionary()
"""Gone with their networks."""
_FINDING = threading.Lock()


@contextmanager
def fold_norms(
    network: Segmenter, device: torch.device, dtype: torch.dtype = torch.float32, *, output_stride: int | None = None
) -> Iterator[Segmenter]:
    """Lend a copy in evaluation mode that computes the same, to rounding, with fewer passes over memory.

    A norm is folded where nothing but it reads the convolution before it; others stay as they are. The copy is made
    once, and again when the network's tensors have changed since. It is in the channels-last layout. Whoever asks for
    the same device and type shares it, one after another: another thread waits until the block has ended.

    Args:
        network: The network, which is left as it is.
        device: Where the copy lies.
        dtype: Of the copy's convolutions.
        output_stride: The copy's; the network's where left out.
    Raises:
        ConfigError: The network cannot be switched to the output stride.
    """
    kept = _find_kept(network)
    with kept.lock:
        yield _update_copy(network, kept, device, dtype, output_stride or network.output_stride)


@torch.inference_mode(False)
def _find_kept(network: Segmenter) -> _Folded:
    with _FINDING:
        if network not in _FOLDED:
            _FOLDED[network] = _Folded(find_pairs(network))
        return _FOLDED[network]


@torch.inference_mode(False)
def _update_copy(
    network: Segmenter, kept: _Folded, device: torch.device, dtype: torch.dtype, output_stride: int
) -> Segmenter:
    """Return the copy with what the network has learnt until now, at an output stride."""
    moment = find_moment(network)
    if kept.moment != moment:
        kept.moment, kept.copies = moment, {}
    if (device, dtype) not in kept.copies:
        kept.copies[device, dtype] = _build_copy(network, kept.pairs, device, dtype)
    folded = kept.copies[device, dtype]
    if folded.output_stride != output_stride:
        folded.output_stride = output_stride
    if folded.pooling_window != network.pooling_window:
        folded.pooling_window = network.pooling_window
    return folded


def find_moment(network: Segmenter) -> tuple[int, ...]:
    """Return numbers that are others once the network's tensors have changed."""
    # One walk over the modules: those of `parameters` and `buffers` take as long as a small network's layers.
    own = (kept for module in network.modules() for kept in (module._parameters, module._buffers))
    tensors = (tensor for kept in own for tensor in kept.values() if tensor is not None)
    return tuple(number for tensor in tensors for number in (id(tensor), tensor._version))


def _build_copy(
    network: Segmenter, pairs: list[tuple[str, str]], device: torch.device, dtype: torch.dtype
) -> Segmenter:
    folded = copy.deepcopy(network).requires_grad_(False)
    modules: dict[str, Any] = dict(folded.named_modules())
    for conv_name, norm_name in pairs:
        conv, norm = modules[conv_name], modules[norm_name]
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        parent, _, name = norm_name.rpartition(".")
        # timm's norms hold the activation that follows them
        setattr(modules[parent], name, nn.Sequential(norm.drop, norm.act) if hasattr(norm, "act") else nn.Identity())
    for module in folded.modules():
        if isinstance(module, nn.Conv2d):
            module.to(dtype)
    placed: Segmenter = folded.eval().to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def find_pairs(network: Segmenter) -> list[tuple[str, str]]:
    """Return the names of convolutions and of the norms that alone read them.

    Who reads what is told by the graph through which gradients would flow back after one pass over a small image.
    """
    twin = copy.deepcopy(network).cpu().eval().requires_grad_(True)
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
        if type(module) is nn.BatchNorm2d or type(module).__name__ == "BatchNormAct2d":
            module.register_forward_pre_hook(note_norm(name))
        elif isinstance(module, nn.Conv2d):
            module.register_forward_hook(note_conv(name))
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        cells = twin.forward_cells(torch.zeros(1, 3, PROBE_SIDE, PROBE_SIDE))
    readers = _count_readers(cells.logits.grad_fn)
    return [(made_by[source], norm) for norm, source in read_by.items() if source in made_by and readers[source] == 1]


def _count_readers(last: Any) -> Counter[Any]:
    """Return how many operations of a gradient's graph read each operation's result."""
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
