"""Atrous convolutions in converted graphs: the runtimes' own kernels beside sums over taps.

    python benchmarks/atrous_graphs.py              # needs the extras onnx and openvino
    python benchmarks/atrous_graphs.py --smoke      # small sizes: checks that the script runs

Each row is a graph of one 3x3 convolution with a ReLU, `native` or rewritten by `atrous.graphs.taps`, for one image;
both forms take turns. Seconds are those of the process, which other programs on the machine hardly change: run it with
one thread. The rule of `--atrous auto` was read off results/performance/atrous_graphs.csv, and a test compares both;
running the script on another kind of CPU adds its rows. bf16 is measured where the CPU multiplies it.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from functools import partial

import numpy as np
import onnx
import torch
from harness import Side, parse_options, report, take_turns
from onnx import helper, numpy_helper

from atrous.core.machine import find_cpu_kind
from atrous.exporting.int8 import quantise
from atrous.graphs.taps import rewrite_atrous
from atrous.graphs.trace import INPUT_NAME
from atrous.inference.backends.graph_backend import Graph
from atrous.inference.backends.onnx_session import OnnxSession
from atrous.inference.backends.openvino_model import OpenVinoModel
from atrous.inference.precision import computes_bf16

RUNTIMES = {"onnxruntime": OnnxSession, "openvino": OpenVinoModel}
Case = tuple[int, int, int, int]
"""Channels in and out, side of the map in cells, rate."""


class _Convolution(Graph):
    """A graph of one convolution, from its bytes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.name, self.source = "convolution", model.SerializeToString()
        self.num_classes, self.aligned, self.output, self.output_stride = 1, True, "cells", 1
        self.bytes_per_pixel = 1.0


def list_cases(*, smoke: bool) -> Iterator[Case]:
    """Yield the convolutions of ResNet-50 at output stride 8 and of the default network."""
    if smoke:
        yield from ((8, 4, 9, 4), (8, 4, 9, 12))
        return
    yield from ((512, 512, 65, rate) for rate in (2, 4))
    yield from ((2048, 256, 65, rate) for rate in (6, 12, 24, 36))
    yield from ((320, 256, cells, rate) for cells in (33, 23) for rate in (6, 12, 18))


def build_graph(case: Case, *, is_int8: bool, taps: bool) -> onnx.ModelProto:
    """Return a graph of a convolution; in 8 bits it is between two convolutions that stay in fp32, as in a network."""
    channels, filters, _, rate = case
    generator = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(np.prod(shape[1:])))

    tensors = [numpy_helper.from_array(draw(filters, channels, 3, 3), "weight")]
    wide = {"kernel_shape": [3, 3], "dilations": [rate] * 2, "pads": [rate] * 4, "strides": [1, 1]}
    source, nodes = INPUT_NAME, []
    if is_int8:
        tensors += [
            numpy_helper.from_array(draw(each, 1, 1, 1), name) for each, name in ((channels, "in"), (filters, "out"))
        ]
        nodes = [
            helper.make_node("Conv", [INPUT_NAME, "in"], ["entered"], name="first", group=channels),
            helper.make_node("Relu", ["entered"], ["map"], name="positive"),
        ]
        source = "map"
    nodes += [
        helper.make_node("Conv", [source, "weight"], ["sums"], name="atrous", **wide),
        helper.make_node("Relu", ["sums"], ["features" if is_int8 else "output"], name="relu"),
    ]
    if is_int8:
        nodes.append(helper.make_node("Conv", ["features", "out"], ["output"], name="last", group=filters))
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", count, "height", "width"])
        for name, count in ((INPUT_NAME, channels), ("output", filters))
    ]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if taps:
        rewrite_atrous(model)
    return quantise(model, [draw_map(case).transpose(1, 2, 0)]) if is_int8 else model


def draw_map(case: Case) -> np.ndarray:
    """Return a map (C, h, w)."""
    return np.random.default_rng(1).standard_normal((case[0], case[2], case[2]), dtype=np.float32)


def build_sides(case: Case, runtime: str, precision: str) -> dict[str, Side]:
    """Return both forms of a graph in a runtime."""
    image = torch.from_numpy(draw_map(case))[None]
    sides: dict[str, Side] = {}
    for form in ("native", "taps"):
        graph = _Convolution(build_graph(case, is_int8=precision == "int8", taps=form == "taps"))
        backend = RUNTIMES[runtime](graph, device=torch.device("cpu"), precision=precision)
        sides[form] = partial(backend._run, image)
    return sides


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this script."""
    parser.add_argument("--smoke", action="store_true", help="small sizes, to test the script")
    parser.add_argument("--precisions", default="fp32,bf16,int8", help="of the graphs")


def main() -> None:
    """Measure every case in each runtime and precision."""
    options = parse_options(__doc__, add_options)
    wanted = [each for each in options.precisions.split(",") if each != "bf16" or computes_bf16("cpu")]
    for precision, case, runtime in itertools.product(wanted, list_cases(smoke=options.smoke), RUNTIMES):
        if precision not in RUNTIMES[runtime].precisions:
            continue
        times = take_turns(build_sides(case, runtime, precision), options.rounds, clock=time.process_time)
        context = {"kind": find_cpu_kind(), "runtime": runtime, "precision": precision}
        context |= dict(zip(("channels", "filters", "cells", "rate"), case, strict=True))
        report("atrous_graphs", context, times, reference="native", options=options)


if __name__ == "__main__":
    main()
