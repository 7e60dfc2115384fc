"""A living network as a graph in memory, for runtimes that do not run PyTorch's networks."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch

from atrous.core.errors import ModelFileError
from atrous.graphs.trace import trace_network
from atrous.inference import CONVERTERS
from atrous.inference.backends.folding import find_moment, fold_norms
from atrous.inference.backends.graph_backend import Graph, read_first_line
from atrous.inference.memory import measure_bytes_per_pixel
from atrous.networks.contracts import Geometry
from atrous.networks.segmenter import Segmenter

_CPU = torch.device("cpu")
_Key = tuple[int, int | None]


class ConvertedNetwork(Graph):
    """A network as it was when it was converted.

    Args:
        network: The network.
        output_stride: That of the graph.
    Raises:
        ModelFileError: The network cannot be converted.
        MachineError: A package that this needs is not installed.
    """

    name = "the network"
    output = "cells"

    def __init__(self, network: Segmenter, output_stride: int) -> None:
        super().__init__()
        convert = CONVERTERS.load("onnx")
        self.num_classes = network.num_classes
        self.aligned = network.aligned
        self.output_stride = output_stride
        self._stride = network.head.find_stride(output_stride)
        with fold_norms(network, _CPU, output_stride=output_stride) as folded:
            self.bytes_per_pixel = measure_bytes_per_pixel(folded, _CPU)
            try:
                self.source: bytes = convert(trace_network(folded, "cells")).SerializeToString()
            except Exception as error:  # the converter has errors of its own
                raise ModelFileError(f"the network cannot be converted: {read_first_line(error)}") from error

    def locate(self, height: int, width: int) -> Geometry:
        """Return where the cells lie for an image of this size in pixels; the graph pads by itself."""
        return Geometry(height, width, height, width, self._stride, self.aligned)


_CONVERTED: WeakKeyDictionary[Segmenter, tuple[tuple[int, ...], dict[_Key, ConvertedNetwork]]] = WeakKeyDictionary()
"""Graphs of a network as it was at some moment; gone with it."""


def convert_network(network: Segmenter, output_stride: int) -> ConvertedNetwork:
    """Return the network as a graph, made once and again when its tensors have changed since; errors as of the class.

    Args:
        network: The network, which is left as it is.
        output_stride: That of the graph.
    """
    moment, key = find_moment(network), (output_stride, network.pooling_window)
    if network not in _CONVERTED or _CONVERTED[network][0] != moment:
        _CONVERTED[network] = moment, {}
    graphs = _CONVERTED[network][1]
    if key not in graphs:
        graphs[key] = ConvertedNetwork(network, output_stride)
    return graphs[key]
