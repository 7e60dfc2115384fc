"""The rule that says how an atrous convolution is computed on the machine at hand.

It is a function of the machine, the dtype and the shape alone: a continued training computes what the first part would
have. For AVX2 and AVX512 it is read off results/performance/atrous_ways.csv, measured by `benchmarks/atrous_ways.py`,
and for AMX off figures of docs/decisions/019.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atrous.core.machine import Kind, find_cpu_kind
from atrous.networks.layers.atrous import Taps, Way, Ways

MOST_SEEN, MOST_SEEN_OF_SMALL = 0.8, 0.5
"""Mean share of the map that a tap sees, above which oneDNN's weight gradient is as fast as by tap; the latter of maps
smaller than `LARGE_MAP` (AVX512)."""
LARGE_MAP = 4000
"""Cells of a map from which on a product for each tap is large enough to be fast (AVX512)."""
FARTHEST_PADDING = 4
"""Padding in cells up to which oneDNN has fast kernels for atrous convolutions, depthwise (AVX) or bf16 (AMX)."""
SMALLEST_PHASE = 4
"""Cells along a side of a phase, below which the many small phases cost more than they save (AVX512)."""
Reasoned = tuple[Way, str]
"""A way, and why it is chosen."""
FASTEST = "fastest where it was measured"
UNMEASURED = "other ways are not measured on this kind of CPU"
GROUPED = "other ways are for dense and depthwise convolutions"
DENSE = "rate 1: it is dense"
SEEN = "taps see most of the map"
MISSED = "taps miss much of the map, which saves products"
SLOW_WEIGHT = "the library's weight gradient is slow at every rate"
SLOW_LARGE_MAPS = "the library's fp32 weight gradient is slow on large maps"
SLOW_FAR = "the library's kernels are slow where taps are far apart"
SLOW_DEPTHWISE = "the library has no fast depthwise kernel with a rate"
SMALL_PHASES = "the phases of this map are small"
KIND: Kind = find_cpu_kind()
"""The kind of this machine, a constant as PyTorch's own choice of kernels is, and one that its compiler can see."""


def find_taps(conv: nn.Conv2d) -> Taps | None:
    """Return where a convolution of stride 1 reads; None unless it is wide, centred and padded with zeros."""
    kernel, rate = conv.kernel_size, conv.dilation
    taps = Taps((kernel[0], kernel[1]), (rate[0], rate[1]), conv.groups)
    is_plain = conv.stride == (1, 1) and conv.padding == taps.reach and conv.padding_mode == "zeros"
    return taps if is_plain and max(kernel) > 1 and all(size % 2 for size in kernel) else None


def choose_ways(taps: Taps, features: Tensor, *, dtype: torch.dtype, kind: Kind) -> Ways:
    """Return how a convolution is computed on a CPU, without the reasons.

    Args:
        taps: Where the convolution reads.
        features: Its input, (B, C, h, w), of which the shape alone counts.
        dtype: What it computes in.
        kind: The CPU.
    """
    output, of_features, of_weight = explain_ways(taps, features, dtype=dtype, kind=kind)
    return Ways(output[0], of_features[0], of_weight[0])


def explain_ways(
    taps: Taps, features: Tensor, *, dtype: torch.dtype, kind: Kind
) -> tuple[Reasoned, Reasoned, Reasoned]:
    """Return how the output, the gradient of the features and that of the weight are computed on a CPU, and why.

    Args:
        taps: Where the convolution reads.
        features: Its input, (B, C, h, w), of which the shape alone counts.
        dtype: What it computes in.
        kind: The CPU.
    """
    cells = (features.shape[2], features.shape[3])
    if taps.groups == 1:
        is_slow = kind == "amx" and dtype == torch.bfloat16 and _is_far(taps)
        plain: Reasoned = ("library", UNMEASURED if kind == "other" else FASTEST)
        of_weight = _choose_for_weight(taps, cells, is_narrow=dtype == torch.bfloat16, kind=kind)
        of_features: Reasoned = ("library", UNMEASURED) if kind == "amx" else plain
        return ("taps", SLOW_FAR) if is_slow else plain, of_features, of_weight
    if taps.groups != features.shape[1]:
        return (("library", GROUPED),) * 3
    if max(taps.rate) == 1:
        return (("library", DENSE),) * 3
    # oneDNN's kernels for gradients of depthwise convolutions have no rate.
    phases: Reasoned = ("phases", SLOW_DEPTHWISE)
    far: Reasoned = ("phases", SLOW_FAR)
    if kind == "avx2":
        return far if _is_far(taps) else ("library", FASTEST), phases, phases
    if kind != "avx512":
        return (("library", UNMEASURED),) * 3
    if not _has_large_phases(taps, cells):
        return (("library", SMALL_PHASES),) * 3
    is_small = max(taps.kernel) <= 3
    output = far if _is_far(taps) and not is_small else ("library", FASTEST)
    return output, phases, phases if is_small else ("library", FASTEST)


def _choose_for_weight(taps: Taps, cells: tuple[int, int], *, is_narrow: bool, kind: Kind) -> Reasoned:
    """Return how the weight gradient of a dense convolution is computed, and why."""
    if kind == "avx2":  # products by tap are 1.3 to 4.7 times as fast
        return "taps", SLOW_WEIGHT
    is_large = cells[0] * cells[1] >= LARGE_MAP
    # In fp32, oneDNN is as slow on large maps, and the phases are small ones.
    if kind == "avx512" and is_large and not is_narrow and max(taps.rate) > 1 and _has_large_phases(taps, cells):
        return "phases", SLOW_LARGE_MAPS
    most_seen = MOST_SEEN_OF_SMALL if kind == "avx512" and not is_large else MOST_SEEN
    return ("taps", MISSED) if taps.compute_seen(cells) <= most_seen else ("library", SEEN)


def _has_large_phases(taps: Taps, cells: tuple[int, int]) -> bool:
    return min(cells) >= SMALLEST_PHASE * max(taps.rate)


def _is_far(taps: Taps) -> bool:
    return max(taps.reach) > FARTHEST_PADDING
