"""A graph as one .pt2 file, which PyTorch runs without the code of the network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch.export import ExportedProgram


class TorchProgramFile:
    """A graph as PyTorch's own program.

    Args:
        program: It.
    """

    suffix = ".pt2"
    beside = ()
    packages = ()

    def __init__(self, program: ExportedProgram) -> None:
        self._program = program

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the graph and what stands beside it; it may be called again with other metadata."""
        torch.export.save(self._program, path, extra_files=dict(metadata))
