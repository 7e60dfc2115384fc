"""What stands in an .onnx file beside its graph, read without running it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import onnx

from atrous.core.errors import ModelFileError


def read_onnx_metadata(path: Path) -> Mapping[str, str]:
    """Return it, without opening any other file.

    Raises:
        ModelFileError: The graph names other files as its weights, which a runtime would read, whatever they are.
    """
    model = onnx.load(path, load_external_data=False)
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    tensors = [*model.graph.initializer, *_iter_tensors(nodes)]
    if model.graph.sparse_initializer or any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors):
        raise ModelFileError(f"{path}: its weights lie in other files", "`atrous export` writes them into the file.")
    return {entry.key: entry.value for entry in model.metadata_props}


def _iter_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    """Yield the tensors that stand in nodes, and in graphs that stand in nodes."""
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for graph in (attribute.g, *attribute.graphs):
                yield from graph.initializer
                yield from _iter_tensors(graph.node)
