from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch.nn import functional as F

from atrous.graphs.atrous_form import Rewriting
from atrous.graphs.taps import rewrite_atrous
from atrous.inference.backends.openvino_model import find_core, read_graph

CHANNELS, FILTERS = 8, 5
SIZES = ((1, 23, 31), (2, 33, 33), (2, 4, 40), (1, 17, 3), (3, 6, 12), (1, 12, 6), (1, 1, 1), (2, 1, 9))
"""Batch, height and width: odd, larger and smaller than the rates, and equal to them."""
Run = Callable[[np.ndarray], np.ndarray]


def build(kernel: tuple[int, int], rate: tuple[int, int], *, groups: int = 1, **more: object) -> onnx.ModelProto:
    """Return a graph of one convolution and a ReLU."""
    generator = np.random.default_rng(0)
    filters = FILTERS if groups == 1 else CHANNELS
    weight = generator.standard_normal((filters, CHANNELS // groups, *kernel), dtype=np.float32)
    bias = generator.standard_normal(filters, dtype=np.float32)
    reach = [step * (size // 2) for size, step in zip(kernel, rate, strict=True)]
    form = {"dilations": rate, "pads": reach * 2, "kernel_shape": kernel, "strides": [1, 1], "group": groups} | more
    nodes = [
        helper.make_node("Conv", ["image", "weight", "bias"], ["sums"], name="conv", **form),
        helper.make_node("Relu", ["sums"], ["output"]),
    ]
    ends = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", count, *sides])
        for name, count, sides in (("image", CHANNELS, ["height", "width"]), ("output", filters, [None, None]))
    ]
    tensors = [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def open_in_onnxruntime(model: onnx.ModelProto) -> Run:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})[0]


def open_in_openvino(model: onnx.ModelProto) -> Run:
    compiled = find_core().compile_model(
        read_graph(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return lambda image: compiled([image])[0].copy()


@pytest.mark.parametrize("open_graph", [open_in_onnxruntime, open_in_openvino])
@pytest.mark.parametrize(
    ("kernel", "rate"), [((3, 3), (6, 6)), ((3, 3), (12, 12)), ((5, 5), (2, 2)), ((3, 5), (4, 2)), ((1, 3), (1, 7))]
)
def test_the_graph_gives_what_the_convolution_gives_at_any_size(
    open_graph: Callable[[onnx.ModelProto], Run], kernel: tuple[int, int], rate: tuple[int, int]
) -> None:
    model = build(kernel, rate)
    tensors = [torch.from_numpy(numpy_helper.to_array(each).copy()) for each in model.graph.initializer]
    assert rewrite_atrous(model) == 1
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == kernel[0] * kernel[1]
    assert {len(node.attribute) for node in convolutions} == {0}  # 1x1, and nothing else
    run = open_graph(model)
    reach = [step * (size // 2) for size, step in zip(kernel, rate, strict=True)]
    generator = np.random.default_rng(1)
    for batch, height, width in SIZES:  # in one session: its sizes are open
        image = generator.standard_normal((batch, CHANNELS, height, width), dtype=np.float32)
        wanted = F.conv2d(torch.from_numpy(image), *tensors, padding=reach, dilation=rate).relu().numpy()
        np.testing.assert_allclose(run(image), wanted, atol=1e-4)


def test_a_tap_outside_of_the_map_spreads_no_infinity() -> None:
    model = build((3, 3), (6, 6))
    rewrite_atrous(model)
    image = np.zeros((1, CHANNELS, 3, 3), dtype=np.float32)
    image[0, 0, 0, 0] = np.inf
    found = open_in_onnxruntime(model)(image)
    assert np.isfinite(found[:, :, 1:]).all()
    assert np.isfinite(found[:, :, :, 1:]).all()


@pytest.mark.parametrize(
    "model",
    [
        build((3, 3), (2, 2), groups=CHANNELS),
        build((3, 3), (2, 2), groups=2),
        build((3, 3), (1, 1)),
        build((1, 1), (1, 1)),
        build((3, 3), (2, 2), strides=[2, 2]),
        build((3, 3), (2, 2), pads=[0, 0, 0, 0]),
        build((3, 3), (2, 2), pads=[1, 2, 3, 2]),
        build((2, 2), (2, 2), pads=[0, 0, 2, 2]),
    ],
    ids=["depthwise", "grouped", "dense", "1x1", "strided", "unpadded", "off centre", "even"],
)
def test_other_convolutions_are_left_as_they_are(model: onnx.ModelProto) -> None:
    before = model.SerializeToString()
    assert rewrite_atrous(model) == 0
    assert model.SerializeToString() == before


def test_smaller_rates_are_left_as_they_are_and_no_weight_is_left_over() -> None:
    model = build((3, 3), (4, 4))
    before = model.SerializeToString()
    assert rewrite_atrous(model, Rewriting(5)) == 0
    assert model.SerializeToString() == before
    assert rewrite_atrous(model, Rewriting(4)) == 1
    sizes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    assert "weight" not in sizes
    assert sorted(sizes.values()).count([FILTERS, CHANNELS, 1, 1]) == 9
    assert sizes["bias"] == [FILTERS]
