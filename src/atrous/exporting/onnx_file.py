"""A graph as one .onnx file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from torch.export import ExportedProgram

from atrous.exporting import PRECISIONS
from atrous.graphs.onnx_file import convert_to_onnx


class OnnxFile:
    """A graph in ONNX, its weights inside.

    Args:
        program: The graph as PyTorch's program.
        calibration: Images by which it is made to compute in 8 bits, or None.
    """

    suffix = ".onnx"
    beside = ()
    packages = ("onnx", "onnxscript", "onnxruntime")

    def __init__(self, program: ExportedProgram, calibration: Sequence[np.ndarray] | None = None) -> None:
        self._model = convert_to_onnx(program)
        if calibration is not None:
            self._model = PRECISIONS.load("int8")(self._model, calibration)

    def serialize(self) -> bytes:
        """Return the graph as the bytes of a file, without what stands beside it."""
        return bytes(self._model.SerializeToString())

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the graph and what stands beside it; it may be called again with other metadata."""
        onnx.helper.set_model_props(self._model, dict(metadata))
        onnx.save(self._model, path)
