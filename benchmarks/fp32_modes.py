"""What fp32 convolutions would cost and lose as products of bf16, where the CPU multiplies bf16 many times as fast.

    python benchmarks/fp32_modes.py                 # a CPU that multiplies bf16
    python benchmarks/fp32_modes.py --smoke         # small sizes: checks that the script runs

`fp32` is a convolution as it is; `other order` is the same one with its input channels in another order, whose
difference is what fp32 itself leaves open. `bf16` rounds both factors. `bf16 mode` is PyTorch's setting for fp32
convolutions. `bf16x3` and `bf16x6` write each fp32 number as a sum of two or three of bf16 and add the three or six
largest products, as modes of these names do; PyTorch has none on CPUs. Their times are those of as many bf16
convolutions, which a library could hardly beat, and their errors those of the same products with sums in fp32. `error`
is the largest difference from the result in fp64, as a share of the largest value; times take turns.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable

import torch
from harness import parse_options, report, take_turns
from torch import Tensor
from torch.nn import functional as F

CASES = ((512, 512, 65, 3, 4), (2048, 256, 65, 3, 12), (320, 256, 33, 3, 12), (2048, 512, 65, 1, 1))
"""Channels in and out, side of the map in cells, side of the filter, rate."""


def convolve(features: Tensor, weight: Tensor, rate: int) -> Tensor:
    """Return the centred convolution."""
    return F.conv2d(features, weight, padding=rate * (weight.shape[2] // 2), dilation=rate)


def split(tensor: Tensor, parts: int) -> list[Tensor]:
    """Return bf16 tensors whose sum is nearly the tensor, the largest first."""
    found = []
    for _ in range(parts):
        found.append(tensor.bfloat16())
        tensor = tensor - found[-1].float()
    return found


def convolve_split(features: Tensor, weight: list[Tensor], rate: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Return the convolution as a sum of products of bf16 parts, without those of the smallest size."""
    parts = [part.to(dtype) for part in split(features, len(weight))]
    weight = [part.to(dtype) for part in weight]
    pairs = [pair for pair in itertools.product(range(len(weight)), repeat=2) if sum(pair) < len(weight)]
    pairs.sort(key=sum, reverse=True)  # the smallest first
    out = convolve(parts[pairs[0][0]], weight[pairs[0][1]], rate).float()
    for one, other in pairs[1:]:
        out += convolve(parts[one], weight[other], rate)
    return out


def convolve_in_mode(features: Tensor, weight: Tensor, rate: int, mode: str) -> Tensor:
    """Return the convolution with PyTorch's setting for fp32 convolutions."""
    before = torch.backends.mkldnn.conv.fp32_precision
    torch.backends.mkldnn.conv.fp32_precision = mode
    try:
        return convolve(features, weight, rate)
    finally:
        torch.backends.mkldnn.conv.fp32_precision = before


def build_sides(features: Tensor, weight: Tensor, order: Tensor, rate: int) -> dict[str, Callable[[], Tensor]]:
    """Return the ways of computing a convolution."""
    features_then = features[:, order].contiguous(memory_format=torch.channels_last)
    weight_then, narrow = weight[:, order].contiguous(), weight.bfloat16()
    halves, thirds = split(weight, 2), split(weight, 3)
    return {
        "fp32": lambda: convolve(features, weight, rate),
        "other order": lambda: convolve(features_then, weight_then, rate),
        "bf16": lambda: convolve(features.bfloat16(), narrow, rate).float(),
        "bf16 mode": lambda: convolve_in_mode(features, weight, rate, "bf16"),
        "bf16x3": lambda: convolve_split(features, halves, rate),
        "bf16x6": lambda: convolve_split(features, thirds, rate),
    }


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this script."""
    parser.add_argument("--smoke", action="store_true", help="small sizes, to test the script")


@torch.inference_mode()
def main() -> None:
    """Measure every case."""
    options = parse_options(__doc__, add_options)
    for channels, filters, cells, kernel, rate in ((8, 4, 9, 3, 4),) if options.smoke else CASES:
        generator = torch.Generator().manual_seed(0)
        features = torch.randn(1, channels, cells, cells, generator=generator)
        features = features.contiguous(memory_format=torch.channels_last)
        weight = torch.randn(filters, channels, kernel, kernel, generator=generator) / (channels * kernel**2) ** 0.5
        order = torch.randperm(channels, generator=generator)
        sides = build_sides(features, weight, order, rate)
        exact = convolve(features.double(), weight.double(), rate)
        more = {}
        for name, run in sides.items():
            parts = {"bf16x3": 2, "bf16x6": 3}.get(name)
            found = convolve_split(features, split(weight, parts), rate, torch.float32) if parts else run()
            more[name] = {"error": f"{float((found - exact).abs().max() / exact.abs().max()):.1e}"}
        context = {"channels": channels, "filters": filters, "cells": cells, "kernel": kernel, "rate": rate}
        report("fp32_modes", context, take_turns(sides, options.rounds), reference="fp32", options=options, more=more)


if __name__ == "__main__":
    main()
