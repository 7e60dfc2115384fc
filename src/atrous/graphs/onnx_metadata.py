"""Reads the metadata of an .onnx file without running its graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import onnx

from atrous.core.errors import ModelFileError


def read_onnx_metadata(path: Path) -> Mapping[str, str]:
    """Read the metadata of an .onnx file without opening any other file.

    Raises:
        ModelFileError: The graph refers to external weights. A runtime would open any path given there.
    """
    model = onnx.load(path, load_external_data=False)
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    tensors = [*model.graph.initializer, *_iter_tensors(nodes)]
    if model.graph.sparse_initializer or any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors):
        raise ModelFileError(
            f"{path}: its weights are stored in other files", "Files written by `atrous export` contain their weights."
        )
    return {entry.key: entry.value for entry in model.metadata_props}


def _iter_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    """Yield the tensors in the attributes of nodes, including nested graphs."""
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for graph in (attribute.g, *attribute.graphs):
                yield from graph.initializer
                yield from _iter_tensors(graph.node)
