"""A graph as one .pt2 file, which PyTorch runs without the code of the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.export import ExportedProgram

from atrous.core.errors import ConfigError


class TorchProgramFile:
    """A graph as PyTorch's own program.

    Args:
        program: It.
        calibration: None, since it computes in fp32.
    Raises:
        ConfigError: It is to compute in 8 bits.
    """

    suffix = ".pt2"
    beside = ()
    packages = ()

    def __init__(self, program: ExportedProgram, calibration: Sequence[np.ndarray] | None = None) -> None:
        if calibration is not None:
            raise ConfigError("int8: a .pt2 computes in fp32", "Use format onnx or openvino.")
        self._program = program

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the graph and what stands beside it; it may be called again with other metadata."""
        torch.export.save(self._program, path, extra_files=dict(metadata))
