"""The rule that says how an atrous convolution is computed on the machine at hand.

It is a function of the machine, the dtype and the shape alone: a continued training computes what the first part would
have. It is read off results/performance/atrous_ways.csv, measured by `benchmarks/atrous_ways.py`. Precisions, kinds of
CPU and numbers of channels for which nothing is measured there keep the library's way. What lies between or above the
measured sizes follows the same limits: other maps, rates, batches and more channels, and any number of filters, which
the rule does not look at (256 were measured beside 2048 channels, else as many as channels or 256).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atrous.core.machine import Kind, find_cpu_kind
from atrous.networks.layers.atrous import Taps, Way, Ways

MOST_SEEN, MOST_SEEN_OF_SMALL = 0.8, 0.5
"""Mean share of the map that a tap sees, above which oneDNN's weight gradient is as fast as by tap; the latter of maps
smaller than `LARGE_MAP`, and with AMX of those with fewer channels than `WIDE_CHANNELS`."""
MOST_SEEN_BACK = 0.6
"""The same of the bf16 gradient of large maps (AMX)."""
LARGE_MAP = 4000
"""Cells of a map from which on a product for each tap is large enough to be fast (AVX512 and AMX)."""
WIDE_CHANNELS, MANY_CHANNELS = 1024, 2048
"""Channels from which on oneDNN's weight gradient is slow on large maps, and every kernel with a rate is (AMX)."""
FEWEST_CHANNELS = 64
"""Channels of a dense convolution below which only the library's way is known."""
MEASURED: dict[Kind, tuple[torch.dtype, ...]] = {
    "avx2": (torch.float32,),
    "avx512": (torch.float32, torch.bfloat16),
    "amx": (torch.float32, torch.bfloat16),
    "other": (),
}
"""What was computed in; in bf16, of depthwise convolutions only the output, since they train in fp32."""
MOST_READ_BYTES = 2**21
"""Bytes of the rows between the taps of a filter, above which oneDNN's bf16 outputs are slow: a core's second cache
(AMX)."""
FARTHEST_PADDING: dict[Kind, int] = {"avx2": 4, "avx512": 6, "amx": 6}
"""Padding in cells up to which oneDNN's kernels for depthwise outputs are fast."""
SMALLEST_WIDE = 45
"""Cells along a side of a map from which on depthwise weight gradients of filters wider than 3 are faster by phase
(AVX512 and AMX)."""
SMALLEST_PHASE = 4
"""Cells along a side of a phase, below which the many small phases cost more than they save (AVX512 and AMX)."""
Reasoned = tuple[Way, str]
"""A way, and why it is chosen."""
FASTEST = "the library's way is as fast or faster at most sizes measured"
UNMEASURED = "other ways are not measured on this kind of CPU"
UNMEASURED_DTYPE = "other ways are not measured in this precision on this kind of CPU"
FEW_CHANNELS = "other ways are not measured for so few channels"
GROUPED = "other ways are for dense and depthwise convolutions"
DENSE = "rate 1: it is dense"
SEEN = "taps see most of the map"
MISSED = "taps miss much of the map, which saves products"
SLOW_WEIGHT = "the library's weight gradient is slow at every rate"
SLOW_CHANNELS = "the library's kernels with a rate are slow for this many channels"
SLOW_LARGE_MAPS = "the library's fp32 weight gradient is slow on large maps"
SLOW_FAR = "the library's kernels are slow where taps are far apart"
SLOW_DEPTHWISE = "the library has no fast depthwise kernel with a rate"
SLOW_GRADIENT = "the library's kernel for this gradient has no rate, that for the output has one"
SMALL_PHASES = "the phases of this map are small"
SMALL_SAVING = "phases of so small a map save little with so wide a filter"
KIND: Kind = find_cpu_kind()
"""The kind of this machine, a constant as PyTorch's own choice of kernels is, and one that its compiler can see."""


def find_taps(conv: nn.Conv2d) -> Taps | None:
    """Return where a convolution of stride 1 reads; None unless it is wide, centred and padded with zeros."""
    kernel, rate = conv.kernel_size, conv.dilation
    taps = Taps((kernel[0], kernel[1]), (rate[0], rate[1]), conv.groups)
    is_plain = conv.stride == (1, 1) and conv.padding == taps.reach and conv.padding_mode == "zeros"
    return taps if is_plain and max(kernel) > 1 and all(size % 2 for size in kernel) else None


def is_always_by_tap(conv: nn.Conv2d, dtype: torch.dtype) -> bool:
    """Return whether the output of a convolution is computed by tap on this machine, whatever the size of its map.

    Args:
        conv: The convolution.
        dtype: What it computes in.
    """
    taps = find_taps(conv)
    if taps is None or conv.groups > 1:
        return False
    cell = torch.empty(1, conv.in_channels, 1, 1, device="meta")
    return choose_ways(taps, cell, dtype=dtype, kind=KIND).output == "taps"


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
    library: Reasoned = ("library", UNMEASURED if kind == "other" else UNMEASURED_DTYPE)
    if dtype not in MEASURED[kind]:
        return (library,) * 3
    is_narrow = dtype == torch.bfloat16
    if taps.groups == 1:
        return _choose_dense(taps, features, is_narrow=is_narrow, kind=kind)
    if taps.groups != features.shape[1]:
        return (("library", GROUPED),) * 3
    if max(taps.rate) == 1:
        return (("library", DENSE),) * 3
    chosen = _choose_depthwise(taps, (features.shape[2], features.shape[3]), kind)
    return (chosen[0], library, library) if is_narrow else chosen


def _choose_dense(taps: Taps, features: Tensor, *, is_narrow: bool, kind: Kind) -> tuple[Reasoned, Reasoned, Reasoned]:
    """Return how each part of a dense convolution is computed, and why."""
    _, channels, *cells = features.shape
    if channels < FEWEST_CHANNELS:
        return (("library", FEW_CHANNELS),) * 3
    fastest: Reasoned = ("library", FASTEST)
    of_weight = _choose_for_weight(taps, features, is_narrow=is_narrow, kind=kind)
    if kind != "amx" or not is_narrow:
        return fastest, fastest, of_weight
    output: Reasoned = ("taps", SLOW_FAR) if _is_slow_on_amx(taps, features) else fastest
    if cells[0] * cells[1] < LARGE_MAP:
        is_slow = channels >= MANY_CHANNELS and max(taps.rate) > 1
        return output, ("taps", SLOW_CHANNELS) if is_slow else fastest, of_weight
    is_missed = taps.compute_seen((cells[0], cells[1])) <= MOST_SEEN_BACK
    return output, ("taps", MISSED) if is_missed else fastest, of_weight


def _choose_depthwise(taps: Taps, cells: tuple[int, int], kind: Kind) -> tuple[Reasoned, Reasoned, Reasoned]:
    """Return how each part of a depthwise convolution with a rate above 1 is computed in fp32, and why.

    oneDNN's kernels for its gradients have no rate. In bf16, its output is computed in the same way.
    """
    is_divided = kind == "avx2" or min(cells) >= SMALLEST_PHASE * max(taps.rate)
    small: Reasoned = ("library", SMALL_PHASES)
    output: Reasoned = ("phases", SLOW_FAR) if is_divided else small
    of_features = output
    if max(taps.reach) <= FARTHEST_PADDING[kind]:
        output, of_features = ("library", FASTEST), ("mirroring", SLOW_GRADIENT)
    if kind != "avx2" and max(taps.kernel) > 3 and min(cells) < SMALLEST_WIDE:
        return output, of_features, ("library", SMALL_SAVING)
    return output, of_features, ("phases", SLOW_DEPTHWISE) if is_divided else small


def _choose_for_weight(taps: Taps, features: Tensor, *, is_narrow: bool, kind: Kind) -> Reasoned:
    """Return how the weight gradient of a dense convolution is computed, and why."""
    if kind == "avx2":  # products by tap are 1.3 to 4.7 times as fast
        return "taps", SLOW_WEIGHT
    _, channels, *cells = features.shape
    is_large = cells[0] * cells[1] >= LARGE_MAP
    # In fp32, oneDNN is as slow on large maps, and the phases are small ones.
    is_divided = min(cells) >= SMALLEST_PHASE * max(taps.rate)
    if kind == "avx512" and is_large and not is_narrow and max(taps.rate) > 1 and is_divided:
        return "phases", SLOW_LARGE_MAPS
    if kind == "amx" and channels >= MANY_CHANNELS and max(taps.rate) > 1:
        return "taps", SLOW_CHANNELS
    is_wide = channels >= WIDE_CHANNELS if kind == "amx" else True
    most_seen = MOST_SEEN if is_large and is_wide else MOST_SEEN_OF_SMALL
    seen = taps.compute_seen((cells[0], cells[1]))
    return ("taps", MISSED) if seen <= most_seen else ("library", SEEN)


def _is_slow_on_amx(taps: Taps, features: Tensor) -> bool:
    """Return whether oneDNN's bf16 kernels for the output of a dense convolution are slow."""
    _, channels, height, width = features.shape
    if max(taps.rate) == 1 or channels >= MANY_CHANNELS:
        return max(taps.rate) > 1
    rows, columns = taps.reach
    read = 2 * channels * (2 * rows + 1) * (width + 2 * columns)
    return height * width >= LARGE_MAP and read > MOST_READ_BYTES
