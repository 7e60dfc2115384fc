"""Graphs as .pt2 files, which PyTorch runs without the source code of the network."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.export import ExportedProgram

from atrous.core.errors import ConfigError
from atrous.core.files import open_deferring
from atrous.graphs.atrous_form import Rewriting


class TorchProgramFile:
    """A graph as a PyTorch program.

    Args:
        program: The traced program.
        calibration: Has to be None: the format computes in fp32. Otherwise images, (H, W, C) each.
        rewriting: Has to be None: the graph keeps its convolutions.
    Raises:
        ConfigError: Calibration images are given.
    """

    suffix = ".pt2"
    beside = ()
    runtime = "pt2"
    rewritten = 0
    packages = ()
    is_archive = True

    def __init__(
        self,
        program: ExportedProgram,
        calibration: Sequence[np.ndarray] | None = None,
        *,
        rewriting: Rewriting | None = None,
    ) -> None:
        if calibration is not None:
            raise ConfigError("int8: .pt2 files compute in fp32", "Use the format onnx or openvino.")
        self._program = program
        # What the tracer assumed of sizes, such as a batch above 1, does not change the output. Without this, the
        # module that `torch.export.load` gives other programs refuses what it can compute.
        self._program._guards_code = []

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the graph with its metadata."""
        with warnings.catch_warnings(), open_deferring(path) as file:
            warnings.simplefilter("ignore", UserWarning)  # PyTorch's own, of weights that share their memory
            torch.export.save(self._program, file, extra_files=dict(metadata))
