"""The rule that says how an atrous convolution is computed on the machine at hand.

It is a function of the machine, the dtype and the shape alone: a continued training computes what the first part would
have. For AVX2 it is read off results/performance/atrous_ways.csv, which `benchmarks/atrous_ways.py` measures, for
AVX512 off weight_gradient.csv there, and for AMX off the figures of docs/decisions/019.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from atrous.core.machine import find_cpu_features
from atrous.networks.layers.atrous import LIBRARY, Taps, Ways

Kind = Literal["amx", "avx512", "avx2", "other"]
"""Kind of a CPU, by what its fastest kernels use."""
MOST_SEEN = 0.8
"""Mean share of the map that a tap sees, above which oneDNN's weight gradient is as fast as by tap (AVX512)."""
FARTHEST_PADDING = 4
"""Padding in cells up to which oneDNN has fast kernels for atrous convolutions, depthwise (AVX2) or bf16 (AMX)."""


def find_kind() -> Kind:
    """Return the kind of this machine's CPU."""
    features = find_cpu_features()
    if "amx_bf16" in features:
        return "amx"
    if "avx512f" in features:
        return "avx512"
    return "avx2" if "avx2" in features else "other"


KIND = find_kind()
"""The kind of this machine, a constant as PyTorch's own choice of kernels is, and one that its compiler can see."""


def find_taps(conv: nn.Conv2d) -> Taps | None:
    """Return where a convolution of stride 1 reads; None unless it is wide, centred and padded with zeros."""
    kernel, rate = conv.kernel_size, conv.dilation
    taps = Taps((kernel[0], kernel[1]), (rate[0], rate[1]), conv.groups)
    is_plain = conv.stride == (1, 1) and conv.padding == taps.reach and conv.padding_mode == "zeros"
    return taps if is_plain and max(kernel) > 1 and all(size % 2 for size in kernel) else None


def choose_ways(taps: Taps, features: Tensor, *, dtype: torch.dtype, kind: Kind) -> Ways:
    """Return how a convolution is computed on a CPU.

    Args:
        taps: Where it reads.
        features: Its input, (B, C, h, w).
        dtype: What it computes in.
        kind: The CPU.
    """
    # On AVX2, oneDNN's weight gradient is slow at every rate: products by tap are 1.3 to 4.7 times as fast. Its kernels
    # for depthwise gradients have no rate at all.
    if taps.groups == 1:
        seen = taps.compute_seen((features.shape[2], features.shape[3]))
        is_slow = kind == "amx" and dtype == torch.bfloat16 and _is_far(taps)
        is_slow_in_weight = kind == "avx2" or seen <= MOST_SEEN
        return Ways(output="taps" if is_slow else "library", of_weight="taps" if is_slow_in_weight else "library")
    if taps.groups == features.shape[1] and max(taps.rate) > 1 and kind == "avx2":
        return Ways(output="phases" if _is_far(taps) else "library", of_features="phases", of_weight="phases")
    return LIBRARY


def _is_far(taps: Taps) -> bool:
    return max(taps.reach) > FARTHEST_PADDING
