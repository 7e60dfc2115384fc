"""An atrous convolution in each exact way, beside a dense one, and which way the rule chooses on this machine.

    python benchmarks/atrous_ways.py                # both cores or more
    python benchmarks/atrous_ways.py --smoke        # small sizes: checks that the script runs

Each row is one part of a convolution: its output, the gradient of its features, or that of its weight; all ways of a
part take turns. `gflop_per_s` counts all taps, those on padding too, so that rates can be compared; `chosen` marks what
`atrous.networks.layers.ways` chooses. Rows at rate 1 are the dense convolution of the same map. The rule was read off
results/performance/atrous_ways.csv, which keeps the rows of other kinds of CPU, and a test compares both.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from harness import Side, parse_options, report, take_turns
from torch import Tensor

from atrous.inference.precision import computes_bf16
from atrous.networks.layers.atrous import (
    Taps,
    Way,
    Ways,
    compute_output,
    differentiate_features,
    differentiate_weight,
)
from atrous.networks.layers.ways import KIND, choose_ways

PARTS = ("output", "of_features", "of_weight")


@dataclass(frozen=True)
class Case:
    """A convolution of a map.

    Args:
        batch: Maps at a time.
        channels, filters: Channels of input and output; equal ones with a filter for each are depthwise.
        cells: Side of the map.
        kernel: Side of the filter.
        rate: Distance between taps in cells.
        is_depthwise: Whether each channel has a filter of its own.
    """

    batch: int
    channels: int
    filters: int
    cells: int
    kernel: int
    rate: int
    is_depthwise: bool = False

    @property
    def taps(self) -> Taps:
        """Where it reads."""
        groups = self.channels if self.is_depthwise else 1
        return Taps((self.kernel, self.kernel), (self.rate, self.rate), groups)

    @property
    def gflop(self) -> float:
        """Operations, a multiply-add as two, in 1e9."""
        products = self.batch * self.filters * self.channels // self.taps.groups * (self.cells * self.kernel) ** 2
        return 2e-9 * products


def list_cases(*, smoke: bool) -> Iterator[Case]:
    """Yield the convolutions of ResNet's and EfficientNet-Lite's last stages and of ASPP."""
    if smoke:
        yield from (Case(1, 8, 4, 9, 3, 4), Case(1, 8, 8, 9, 3, 4, is_depthwise=True))
        return
    for channels, cells in ((64, 129), (128, 65), (256, 65)):
        yield Case(2, channels, channels, cells, 3, 1)
    for batch, rate in itertools.product((1, 2), (1, 2, 4)):
        yield Case(batch, 512, 512, 65, 3, rate)
    for batch, rate in itertools.product((1, 2), (1, 6, 12, 24, 36)):
        yield Case(batch, 2048, 256, 65, 3, rate)
    for rate in (1, 6, 12, 18):
        yield Case(1, 2048, 256, 33, 3, rate)
    for channels, rate in itertools.product((320, 512, 1024), (1, 12, 24, 36)):
        yield Case(1, channels, 256, 65, 3, rate)
    for batch, cells, rate in itertools.product((1, 8), (23, 33), (1, 6, 12, 18)):
        yield Case(batch, 320, 256, cells, 3, rate)
    for batch, rate in itertools.product((1, 8), (1, 2)):
        yield Case(batch, 1152, 1152, 23, 5, rate, is_depthwise=True)
    yield Case(8, 1152, 1152, 23, 3, 2, is_depthwise=True)
    for kernel, rate in itertools.product((3, 5), (1, 2, 4)):
        yield Case(2, 1152, 1152, 45, kernel, rate, is_depthwise=True)
    for batch, rate in itertools.product((1, 8), (1, 6, 12)):
        yield Case(batch, 256, 256, 33, 3, rate, is_depthwise=True)


def build_sides(case: Case, part: str, dtype: torch.dtype) -> dict[str, Side]:
    """Return the ways of computing a part."""
    generator, taps = torch.Generator().manual_seed(0), case.taps

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    features, gradient = (
        draw(case.batch, channels, case.cells, case.cells).contiguous(memory_format=torch.channels_last)
        for channels in (case.channels, case.filters)
    )
    weight = draw(case.filters, case.channels // taps.groups, case.kernel, case.kernel)
    computing: dict[str, Callable[[Way], Side]] = {
        "output": lambda way: partial(compute_output, features, weight, taps, way),
        "of_features": lambda way: partial(differentiate_features, gradient, features, weight, taps, way),
        "of_weight": lambda way: partial(differentiate_weight, gradient, features, weight, taps, way),
    }
    possible: list[Way] = ["library"]
    if taps.groups == 1 and (case.rate > 1 or part == "of_weight"):
        possible.append("taps")
    if case.rate > 1:
        possible.append("phases")
    if case.is_depthwise and part == "of_features":
        possible.append("mirroring")
    return {way: computing[part](way) for way in possible}


def find_chosen(case: Case, dtype: torch.dtype) -> Ways:
    """Return what the rule chooses."""
    features = torch.empty(case.batch, case.channels, case.cells, case.cells, device="meta")
    return choose_ways(case.taps, features, dtype=dtype, kind=KIND)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this script."""
    parser.add_argument("--smoke", action="store_true", help="small sizes, to test the script")


@torch.inference_mode()
def main() -> None:
    """Measure every part of every case."""
    options = parse_options(__doc__, add_options)
    dtypes = (torch.float32, torch.bfloat16) if computes_bf16("cpu") else (torch.float32,)
    for case, dtype, part in itertools.product(list_cases(smoke=options.smoke), dtypes, PARTS):
        if case.is_depthwise and dtype == torch.bfloat16 and part != "output":
            continue  # they train in fp32
        times = take_turns(build_sides(case, part, dtype), options.rounds)
        chosen = getattr(find_chosen(case, dtype), part)
        more = {
            way: {"gflop_per_s": f"{case.gflop / min(seconds):.0f}", "chosen": "yes" if way == chosen else ""}
            for way, seconds in times.items()
        }
        context = {"kind": KIND, "dtype": str(dtype)[6:], **vars(case), "part": part}
        report("atrous_ways", context, times, reference="library", options=options, more=more)


if __name__ == "__main__":
    main()
