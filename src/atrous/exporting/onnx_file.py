"""A graph as one .onnx file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import onnx
import onnxscript  # noqa: F401  # PyTorch needs it; asked for here, its absence is said in words
import torch
from torch.export import ExportedProgram

from atrous.inference.graph import INPUT_NAME

OPSET = 18
OUTPUT_NAME = "output"


class OnnxFile:
    """A graph in ONNX, its weights inside.

    Args:
        program: The graph as PyTorch's program.
    """

    suffix = ".onnx"
    beside = ()
    packages = ("onnx", "onnxscript", "onnxruntime")

    def __init__(self, program: ExportedProgram) -> None:
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
        self._model: onnx.ModelProto = converted.model_proto  # type: ignore[union-attr]
        for node in self._model.graph.node:  # where each line of Python stood in whoever exported it
            del node.metadata_props[:]
        onnx.checker.check_model(self._model)

    def serialize(self) -> bytes:
        """Return the graph as the bytes of a file, without what stands beside it."""
        return bytes(self._model.SerializeToString())

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the graph and what stands beside it; it may be called again with other metadata."""
        onnx.helper.set_model_props(self._model, dict(metadata))
        onnx.save(self._model, path)
