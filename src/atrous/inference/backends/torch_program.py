"""Runs a .pt2 file, a program that torch.export wrote. Opening one can run any code in it."""

from __future__ import annotations

import inspect
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from atrous.inference.backends.graph_backend import GraphBackend

_METADATA_FOLDERS = {"extra", "extra_files"}
"""Folders of additional files in a program's archive: in today's PyTorch and before 2.8."""


class TorchProgram(GraphBackend):
    """A .pt2 file as a function from images to cells; see `GraphBackend`."""

    @staticmethod
    def read_metadata(path: Path) -> Mapping[str, str]:
        """Return the metadata of a file without opening its graph; empty if another program wrote it."""
        with zipfile.ZipFile(path) as archive:
            files = [name for name in archive.namelist() if _METADATA_FOLDERS & set(name.split("/")[:-1])]
            return {name.rpartition("/")[2]: archive.read(name).decode() for name in files}

    @staticmethod
    def list_devices() -> tuple[str, ...]:
        """Return the kinds of device that the runtime can use here, the best first."""
        return ("cuda", "cpu") if torch.cuda.is_available() else ("cpu",)

    def _open(self, source: Path | bytes, precision: str) -> None:
        program = torch.export.load(source)  # type: ignore[arg-type]  # always a file
        if self.device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, self.device)
        # The tracer's assumptions about the image's size, such as that a map is not contiguous or has more than one
        # cell per side, do not change the output.
        program.range_constraints.clear()
        unchecked = {"check_guards": False} if "check_guards" in inspect.signature(program.module).parameters else {}
        self._program = program.module(**unchecked)

    @torch.inference_mode()
    def _run(self, images: Tensor) -> Tensor:
        answer: Tensor = self._program(images.contiguous())
        return answer
