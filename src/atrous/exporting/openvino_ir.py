"""A graph in OpenVINO's own form: an .xml file, and its weights in a .bin file beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import openvino
from torch.export import ExportedProgram

from atrous.exporting.onnx_file import OnnxFile
from atrous.inference.backends.openvino_model import RUNTIME_INFO, find_core


class OpenVinoIR:
    """A graph in OpenVINO's intermediate representation, its weights in 32 bits.

    It is made from the ONNX graph: OpenVINO's own reading of PyTorch's programs has no sums of open sizes.

    Args:
        program: The graph as PyTorch's program.
        calibration: Images by which it is made to compute in 8 bits, or None.
    """

    suffix = ".xml"
    beside = (".bin",)
    packages = ("openvino", "onnx", "onnxscript")

    def __init__(self, program: ExportedProgram, calibration: Sequence[np.ndarray] | None = None) -> None:
        self._model = find_core().read_model(OnnxFile(program, calibration).serialize())

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the graph and what stands beside it; it may be called again with other metadata."""
        for key, value in metadata.items():
            self._model.set_rt_info(value, [RUNTIME_INFO, key])
        openvino.save_model(self._model, path, compress_to_fp16=False)
