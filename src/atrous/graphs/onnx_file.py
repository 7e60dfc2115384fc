"""A traced network as an ONNX graph."""

from __future__ import annotations

import re
import warnings

import onnx
import onnxscript  # noqa: F401  # needed by PyTorch; importing it here gives a clear error if it is missing
import torch
from torch.export import ExportedProgram

from atrous.graphs.trace import INPUT_NAME

OPSET = 18
OUTPUT_NAME = "output"
SIZE_NAMES = {0: "batch", 2: "height", 3: "width"}
"""Names of the dynamic sizes by their dimension of the input."""


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
    _name_sizes(model)
    onnx.checker.check_model(model)
    return model


def _name_sizes(model: onnx.ModelProto) -> None:
    """Rename the dynamic sizes, which the tracer calls s64 or the like, wherever they occur."""
    sides = model.graph.input[0].type.tensor_type.shape.dim
    names = {sides[dimension].dim_param: name for dimension, name in SIZE_NAMES.items()}
    traced = re.compile("|".join(rf"\b{name}\b" for name in names))
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param:
                side.dim_param = traced.sub(lambda found: names[found[0]], side.dim_param)
