"""A traced network as an ONNX graph."""

from __future__ import annotations

import warnings

import onnx
import onnxscript  # noqa: F401  # PyTorch needs it; asked for here, its absence is said in words
import torch
from torch.export import ExportedProgram

from atrous.graphs.trace import INPUT_NAME

OPSET = 18
OUTPUT_NAME = "output"


def convert_to_onnx(program: ExportedProgram) -> onnx.ModelProto:
    """Return a network's program as an ONNX graph, its weights inside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the exporter's own, of PyTorch and Python
        converted = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            external_data=False,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            verbose=False,
        )
    model: onnx.ModelProto = converted.model_proto  # type: ignore[union-attr]
    for node in model.graph.node:  # where each line of Python stood in whoever exported it
        del node.metadata_props[:]
    onnx.checker.check_model(model)
    return model
