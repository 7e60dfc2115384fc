"""What a format of exported files is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from torch.export import ExportedProgram


class Format(Protocol):
    """A graph in one format, made from PyTorch's own program of it: `Format(program, calibration)`.

    With images to calibrate by, (H, W, 3) uint8 each, it computes in 8 bits, or a ConfigError says that it cannot.

    `suffix` is that of its files; `beside` are those of further files that belong to one; `packages` are those whose
    versions are noted in them.
    """

    suffix: str
    beside: tuple[str, ...]
    packages: tuple[str, ...]

    def __init__(self, program: ExportedProgram, calibration: Sequence[np.ndarray] | None = None) -> None: ...

    def save(self, path: Path, metadata: Mapping[str, str]) -> None:
        """Write the graph and what stands beside it to `path`; it may be called again with other metadata."""
        ...
