"""A traced network as an ONNX graph."""

from __future__ import annotations

import warnings

import onnx
import onnxscript  # noqa: F401  # needed by PyTorch; importing it here gives a clear error if it is missing
import torch
from torch.export import ExportedProgram

from atrous.graphs.trace import INPUT_NAME

OPSET = 18
OUTPUT_NAME = "output"


def convert_to_onnx(program: ExportedProgram) -> onnx.ModelProto:
    """Convert a traced network to an ONNX graph that contains its weights."""
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
    for node in model.graph.node:  # source paths of the machine that exported it
        del node.metadata_props[:]
    onnx.checker.check_model(model)
    return model
