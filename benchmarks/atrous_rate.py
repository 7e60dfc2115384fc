"""What an atrous convolution reaches of the machine's own rate: `make bench ONLY=atrous` runs this script.

    python benchmarks/atrous_rate.py                # both cores or more
    python benchmarks/atrous_rate.py --smoke        # small sizes: checks that the script runs

The machine's rate is that of a large matrix product. Convolutions are of one image, channels last; `library` is as
PyTorch computes them, `taps` a sum of products, one for each tap, over the cells that it sees, with filters laid out as
predictions have them, and `phases` a dense convolution of each sub-grid of every rate-th cell. `gflop_per_s` counts all
taps, those on padding too, so that rates can be compared. All sides of a row take turns with the product; `share` is
theirs of the product's rate, the median of the turns. bf16 is measured where the CPU multiplies it.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from functools import partial

import torch
from harness import Side, parse_options, report, take_turns
from torch import Tensor
from torch.nn import functional as F

from atrous.core.machine import find_cpu_kind
from atrous.core.provenance import describe_machine
from atrous.inference.precision import computes_bf16
from atrous.networks.layers.atrous import Taps, compute_output, lay_out_by_tap

PRODUCT = "matrix product"
SIDE, SMOKE_SIDE = 2048, 64
"""Rows and columns of the matrices."""
Case = tuple[int, int, int, int, int]
"""Channels in and out, side of the map in cells, side of the filter, rate."""


def list_cases(*, smoke: bool) -> Iterator[Case]:
    """Yield the convolutions of ResNet-50 and of the default network, dense ones first."""
    if smoke:
        yield from ((8, 4, 9, 1, 1), (8, 4, 9, 3, 1), (8, 4, 9, 3, 4))
        return
    yield 2048, 256, 65, 1, 1
    yield from ((512, 512, 65, 3, rate) for rate in (1, 2, 4))
    yield from ((2048, 256, 65, 3, rate) for rate in (1, 6, 12, 24, 36))
    yield from ((320, 256, cells, 3, rate) for cells in (33, 23) for rate in (1, 6, 12, 18))


def build_sides(case: Case, dtype: torch.dtype, side: int) -> dict[str, Side]:
    """Return the product and the ways of computing a convolution."""
    channels, filters, cells, kernel, rate = case
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    features = draw(1, channels, cells, cells).contiguous(memory_format=torch.channels_last)
    weight = draw(filters, channels, kernel, kernel).contiguous(memory_format=torch.channels_last)
    one, other, taps = draw(side, side), draw(side, side), Taps((kernel, kernel), (rate, rate))
    sides: dict[str, Side] = {
        PRODUCT: partial(torch.mm, one, other),
        "library": partial(F.conv2d, features, weight, padding=taps.reach, dilation=taps.rate),
    }
    if rate > 1:
        sides["taps"] = partial(compute_output, features, lay_out_by_tap(weight), taps, "taps")
    if rate in (2, 4):
        sides["phases"] = partial(compute_output, features, weight, taps, "phases")
    return sides


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this script."""
    parser.add_argument("--smoke", action="store_true", help="small sizes, to test the script")


@torch.inference_mode()
def main() -> None:
    """Measure every case, and print a table of all of them."""
    options = parse_options(__doc__, add_options)
    side = SMOKE_SIDE if options.smoke else SIDE
    rate_work = 2e-9 * side**3
    dtypes = (torch.float32, torch.bfloat16) if computes_bf16("cpu") else (torch.float32,)
    lines: list[tuple[str, str, str, float, dict[str, str]]] = []
    for dtype in dtypes:
        for case in list_cases(smoke=options.smoke):
            channels, filters, cells, kernel, rate = case
            gflop = 2e-9 * channels * filters * (cells * kernel) ** 2
            times = take_turns(build_sides(case, dtype, side), options.rounds)
            more = {}
            for way, seconds in times.items():
                work = rate_work if way == PRODUCT else gflop
                rates = [work / each for each in seconds]
                shares = [a * b / rate_work for a, b in zip(rates, times[PRODUCT], strict=True)]
                more[way] = {
                    "gflop_per_s": f"{statistics.median(rates):.0f}",
                    "share": f"{statistics.median(shares):.2f}",
                }
                what = f"{kernel}x{kernel}, {channels} to {filters}, {cells}x{cells}, rate {rate}"
                if way != PRODUCT or not lines or lines[-1][0] != str(dtype)[6:]:
                    what = f"{side}x{side} times {side}x{side}" if way == PRODUCT else what
                    lines.append((str(dtype)[6:], what, way, statistics.median(seconds), more[way]))
            context = {"kind": find_cpu_kind(), "dtype": str(dtype)[6:], "channels": channels, "filters": filters}
            context |= {"cells": cells, "kernel": kernel, "rate": rate}
            report("atrous_rate", context, times, reference="library", options=options, more=more)
    machine = describe_machine()
    print(
        f"\n{machine['processor']}, {machine['cpu_kind']}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"{'dtype':9}{'convolution':37}{'way':16}{'ms':>9}{'GFLOP/s':>9}{'of the product':>16}")
    for dtype_name, what, way, seconds, found in lines:
        print(f"{dtype_name:9}{what:37}{way:16}{1e3 * seconds:9.1f}{found['gflop_per_s']:>9}{found['share']:>16}")


if __name__ == "__main__":
    main()
