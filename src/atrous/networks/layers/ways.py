"""The rule that says how an atrous convolution is computed on the machine at hand.

It is a function of the machine, the dtype and the shape alone: a continued training computes what the first part would
have. For AVX2 and AVX512 it is read off results/performance/atrous_ways.csv, measured by `benchmarks/atrous_ways.py`,
and for AMX off figures of docs/decisions/019.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from atrous.core.machine import find_cpu_features
from atrous.networks.layers.atrous import LIBRARY, Taps, Way, Ways

Kind = Literal["amx", "avx512", "avx2", "other"]
"""Kind of a CPU, by what its fastest kernels use."""
MOST_SEEN, MOST_SEEN_OF_SMALL = 0.8, 0.5
"""Mean share of the map that a tap sees, above which oneDNN's weight gradient is as fast as by tap; the latter of maps
smaller than `LARGE_MAP` (AVX512)."""
LARGE_MAP = 4000
"""Cells of a map from which on a product for each tap is large enough to be fast (AVX512)."""
FARTHEST_PADDING = 4
"""Padding in cells up to which oneDNN has fast kernels for atrous convolutions, depthwise (AVX) or bf16 (AMX)."""
SMALLEST_PHASE = 4
"""Cells along a side of a phase, below which the many small phases cost more than they save (AVX512)."""


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
    cells = (features.shape[2], features.shape[3])
    if taps.groups == 1:
        is_slow = kind == "amx" and dtype == torch.bfloat16 and _is_far(taps)
        of_weight = _choose_for_weight(taps, cells, is_narrow=dtype == torch.bfloat16, kind=kind)
        return Ways(output="taps" if is_slow else "library", of_weight=of_weight)
    if taps.groups != features.shape[1] or max(taps.rate) == 1:
        return LIBRARY
    # oneDNN's kernels for gradients of depthwise convolutions have no rate.
    if kind == "avx2":
        return Ways(output="phases" if _is_far(taps) else "library", of_features="phases", of_weight="phases")
    if kind == "avx512" and _has_large_phases(taps, cells):
        is_small = max(taps.kernel) <= 3
        return Ways(
            output="phases" if _is_far(taps) and not is_small else "library",
            of_features="phases",
            of_weight="phases" if is_small else "library",
        )
    return LIBRARY


def _choose_for_weight(taps: Taps, cells: tuple[int, int], *, is_narrow: bool, kind: Kind) -> Way:
    """Return how the weight gradient of a dense convolution is computed."""
    if kind == "avx2":  # oneDNN's is slow at every rate: products by tap are 1.3 to 4.7 times as fast
        return "taps"
    is_large = cells[0] * cells[1] >= LARGE_MAP
    # In fp32, oneDNN is as slow on large maps, and the phases are small ones.
    if kind == "avx512" and is_large and not is_narrow and max(taps.rate) > 1 and _has_large_phases(taps, cells):
        return "phases"
    most_seen = MOST_SEEN_OF_SMALL if kind == "avx512" and not is_large else MOST_SEEN
    return "taps" if taps.compute_seen(cells) <= most_seen else "library"


def _has_large_phases(taps: Taps, cells: tuple[int, int]) -> bool:
    return min(cells) >= SMALLEST_PHASE * max(taps.rate)


def _is_far(taps: Taps) -> bool:
    return max(taps.reach) > FARTHEST_PADDING
