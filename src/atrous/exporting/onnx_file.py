"""Graphs as .onnx files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from torch.export import ExportedProgram

from atrous.exporting import PRECISIONS
from atrous.graphs.atrous_form import Rewriting
from atrous.graphs.onnx_file import convert_to_onnx
from atrous.graphs.taps import rewrite_atrous


class OnnxFile:
    """An ONNX graph with its weights.

    Args:
        program: The traced program.
        calibration: Images for 8-bit calibration, (H, W, C) each. None: the graph computes in fp32.
        rewriting: Which atrous convolutions are written as sums over taps. None: none are.
    """

    suffix = ".onnx"
    beside = ()
    runtime = "onnxruntime"
    packages = ("onnx", "onnxscript", "onnxruntime")
    is_archive = False

    def __init__(
        self,
        program: ExportedProgram,
        calibration: Sequence[np.ndarray] | None = None,
        *,
        rewriting: Rewriting | None = None,
    ) -> None:
        self._model = convert_to_onnx(program)
        self.rewritten = 0 if rewriting is None else rewrite_atrous(self._model, rewriting)
        if calibration is not None:
            self._model = PRECISIONS.load("int8")(self._model, calibration)

    def serialize(self) -> bytes:
        """Return the graph as bytes, without metadata."""
        return bytes(self._model.SerializeToString())

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the graph with its metadata."""
        onnx.helper.set_model_props(self._model, dict(metadata))
        onnx.save(self._model, path)
