"""Graphs in OpenVINO's intermediate representation: an .xml file, and a .bin file with the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import openvino
from torch.export import ExportedProgram

from atrous.core.errors import MachineError
from atrous.core.files import require_space
from atrous.exporting.onnx_file import OnnxFile
from atrous.graphs.atrous_form import Rewriting
from atrous.inference.backends.openvino_model import RUNTIME_INFO, read_graph


class OpenVinoIR:
    """A graph in OpenVINO's intermediate representation, with 32-bit weights.

    It is converted from an ONNX graph: OpenVINO's importer of PyTorch programs does not support sums of dynamic sizes.

    Args:
        program: The traced program.
        calibration: Images for 8-bit calibration, (H, W, C) each. None: the graph computes in fp32.
        rewriting: Which atrous convolutions are written as sums over taps. None: none are.
    """

    suffix = ".xml"
    beside = (".bin",)
    runtime = "openvino"
    packages = ("openvino", "onnx", "onnxscript")
    is_archive = False

    def __init__(
        self,
        program: ExportedProgram,
        calibration: Sequence[np.ndarray] | None = None,
        *,
        rewriting: Rewriting | None = None,
    ) -> None:
        onnx_file = OnnxFile(program, calibration, rewriting=rewriting)
        self.rewritten = onnx_file.rewritten
        self._model = read_graph(onnx_file.serialize())

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the graph with its metadata."""
        for key, value in metadata.items():
            self._model.set_rt_info(value, [RUNTIME_INFO, key])
        try:
            openvino.save_model(self._model, path, compress_to_fp16=False)
        except RuntimeError as error:
            if "iostream" not in str(error):
                raise
            require_space(path)  # it says no more of a failed write, and may have removed both files
            weights = sum(node.get_byte_size() for node in self._model.get_ops() if node.get_type_name() == "Constant")
            require_space(path.with_suffix(".bin"), path, num_bytes=weights)
            raise MachineError(
                f"{path}: OpenVINO could not write it, and does not say why",
                "Check the disk and the permissions of the folder, or choose another `format`.",
            ) from error
