"""Atrous convolutions of an ONNX graph as sums over taps, for runtimes whose own kernels are slow at large rates.

A tap is a 1x1 convolution of the cells that it sees: the map without the rows and columns that the tap's distance from
the centre moves out of it. Its output is padded with zeros to the size of the map. Sizes are computed in the graph, so
that it runs on any batch, height and width; taps that a small map does not reach are products of no cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from atrous.graphs.atrous_form import Rewriting

HEIGHT, WIDTH = 2, 3
"""Dimensions of a map (B, C, h, w)."""
ALL = Rewriting()
END = np.iinfo(np.int64).max


def rewrite_atrous(model: onnx.ModelProto, rewriting: Rewriting = ALL) -> int:
    """Write atrous convolutions of a graph as sums over taps, in place; return how many.

    These are the dense, centred ones of stride 1. Others, depthwise ones above all, stay as they are.

    Args:
        model: The graph, in fp32.
        rewriting: Which of them.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    rewritten = 0
    for node in graph.node:
        conv = _read(node, weights, rewriting)
        if conv is None:
            nodes.append(node)
        else:
            nodes += _Writer(graph, conv).write()
            rewritten += 1
    if rewritten:
        del graph.node[:]
        graph.node.extend(nodes)
        used = {name for node in nodes for name in node.input}
        unused = [tensor for tensor in graph.initializer if tensor.name not in used]
        for tensor in unused:
            graph.initializer.remove(tensor)
        onnx.checker.check_model(model)
    return rewritten


@dataclass(frozen=True)
class _Atrous:
    """A convolution that can be written as a sum over taps.

    Args:
        node: Its node.
        weight: Its filters, (C', C, kh, kw).
        rate: Distance between taps in cells, vertical and horizontal.
    """

    node: onnx.NodeProto
    weight: np.ndarray
    rate: tuple[int, int]


def _read(node: onnx.NodeProto, weights: dict[str, onnx.TensorProto], rewriting: Rewriting) -> _Atrous | None:
    """Return a convolution that can be written as a sum over taps, or None."""
    if node.op_type != "Conv" or node.input[1] not in weights:
        return None
    given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    weight = weights[node.input[1]]
    kernel, rate = list(weight.dims[2:]), given.get("dilations", [1, 1])
    reach = [step * (size // 2) for size, step in zip(kernel, rate, strict=True)]
    is_wide = max(kernel) > 1 and len(kernel) == 2 and all(size % 2 for size in kernel)
    is_plain = given.get("group", 1) == 1 and set(given.get("strides", [1])) == {1}
    is_centred = list(given.get("pads", [])) == reach * 2 and given.get("auto_pad", b"NOTSET") == b"NOTSET"
    if not (is_wide and rewriting.includes(rate, weight.dims[1]) and is_plain and is_centred):
        return None
    return _Atrous(node, numpy_helper.to_array(weight), (rate[0], rate[1]))


class _Writer:
    """Writes the nodes of one convolution; new tensors have the name of its output before their own."""

    def __init__(self, graph: onnx.GraphProto, conv: _Atrous) -> None:
        self._graph = graph
        self._conv = conv
        self._nodes: list[onnx.NodeProto] = []
        self._names: set[str] = set()

    def write(self) -> list[onnx.NodeProto]:
        """Return the nodes, the last of which has the convolution's output."""
        node, weight = self._conv.node, self._conv.weight
        columns = []
        for column, step in self._iter_steps(WIDTH):
            features = self._cut(node.input[0], WIDTH, step)
            taps = []
            for row, move in self._iter_steps(HEIGHT):
                is_centre = step == move == 0
                kernel = self._add_constant(f"weight.{row}.{column}", weight[:, :, row : row + 1, column : column + 1])
                bias = node.input[2:] if is_centre else []
                product = self._add("Conv", f"tap.{row}.{column}", [self._cut(features, HEIGHT, move), kernel, *bias])
                taps.append(self._pad(product, HEIGHT, move))
            columns.append(self._pad(self._sum(taps, f"column.{column}"), WIDTH, step))
        self._nodes.append(helper.make_node("Sum", columns, list(node.output), name=node.name))
        return self._nodes

    def _iter_steps(self, side: int) -> Iterator[tuple[int, int]]:
        """Yield the taps along a side: their index, and how many cells behind the centre they read."""
        size, rate = self._conv.weight.shape[side], self._conv.rate[side - HEIGHT]
        yield from ((tap, (tap - size // 2) * rate) for tap in range(size))

    def _cut(self, features: str, side: int, step: int) -> str:
        """Return the rows or columns that a tap reads; one that counts for nothing if all are outside of the map.

        ONNX Runtime refuses convolutions of no cells.
        """
        if not step:
            return features
        size, missed = self._find_size(side), self._find_missed(side, step)
        start, end = (
            (missed, self._hold(END))
            if step > 0
            else (self._hold(0), self._add("Sub", f"end.{side}.{step}", [size, missed]))
        )
        return self._add("Slice", f"{_last(features)}.cut.{side}.{step}", [features, start, end, self._hold(side)])

    def _pad(self, product: str, side: int, step: int) -> str:
        """Return what a tap contributes to the whole map: zeros where it reads outside of it."""
        if not step:
            return product
        size, missed = self._find_size(side), self._find_missed(side, step)
        outside = self._add("Min", f"outside.{side}.{abs(step)}", [size, self._hold(abs(step))])
        surplus = self._add("Sub", f"surplus.{side}.{abs(step)}", [missed, outside])  # -1 takes the row away
        pads = [surplus, outside] if step > 0 else [outside, surplus]
        listed = self._add("Concat", f"pads.{side}.{step}", pads, axis=0)
        return self._add("Pad", f"{_last(product)}.padded.{side}", [product, listed, "", self._hold(side)])

    def _find_size(self, side: int) -> str:
        return self._add("Shape", f"size.{side}", [self._conv.node.input[0]], start=side, end=side + 1)

    def _find_missed(self, side: int, step: int) -> str:
        """Return how many rows or columns of the map a tap does not read; not all."""
        last = self._add("Sub", f"last.{side}", [self._find_size(side), self._hold(1)])
        return self._add("Min", f"missed.{side}.{abs(step)}", [last, self._hold(abs(step))])

    def _hold(self, value: int) -> str:
        """Return the name of a whole number."""
        return self._add_constant(f"number.{value}", np.array([value], dtype=np.int64))

    def _sum(self, taps: Sequence[str], name: str) -> str:
        return taps[0] if len(taps) == 1 else self._add("Sum", name, taps)

    def _add(self, op: str, name: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node, unless there is one of this name; return the name of its output."""
        output = f"{self._conv.node.output[0]}/{name}"
        if output not in self._names:
            self._names.add(output)
            self._nodes.append(helper.make_node(op, list(inputs), [output], name=output, **attributes))
        return output

    def _add_constant(self, name: str, value: np.ndarray) -> str:
        constant = f"{self._conv.node.output[0]}/{name}"
        if constant not in self._names:
            self._names.add(constant)
            self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), constant))
        return constant


def _last(name: str) -> str:
    return name.rpartition("/")[2]
