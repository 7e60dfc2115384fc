"""The contract of a format of exported files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from torch.export import ExportedProgram

from atrous.graphs.atrous_form import Rewriting


class Format(Protocol):
    """A graph in one file format, built from a traced PyTorch program.

    Attributes:
        suffix: Suffix of the files.
        beside: Suffixes of additional files that belong to each file.
        runtime: The backend that runs the files by default.
        rewritten: How many atrous convolutions of the graph are sums over taps.
        packages: Packages whose versions are recorded in the files.
        is_archive: Whether the files are zip archives, whose members have checksums.

    Args:
        program: The traced program.
        calibration: Images for 8-bit calibration, (H, W, C) each. None: the graph computes in fp32.
        rewriting: Which atrous convolutions are written as sums over taps. None: none are.
    Raises:
        ConfigError: Calibration images are given, but the format does not support 8 bits.
    """

    suffix: str
    beside: tuple[str, ...]
    runtime: str
    rewritten: int
    packages: tuple[str, ...]
    is_archive: bool

    def __init__(
        self,
        program: ExportedProgram,
        calibration: Sequence[np.ndarray] | None = None,
        *,
        rewriting: Rewriting | None = None,
    ) -> None: ...

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the graph with its metadata. Can be called again with different metadata.

        Args:
            path: The file.
            metadata: Strings by name.
        """
        ...
