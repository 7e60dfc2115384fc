"""Runs a .pt2 file, a program of PyTorch's own export. Opening one can run any code that it holds."""

from __future__ import annotations

import inspect
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from atrous.inference.backends.graph_backend import GraphBackend

_METADATA_FOLDERS = {"extra", "extra_files"}
"""Where PyTorch keeps further files in a program's archive, now and before 2.8."""


class TorchProgram(GraphBackend):
    """A .pt2 file as a function from images to cells; see `GraphBackend`."""

    @staticmethod
    def read_metadata(path: Path) -> Mapping[str, str]:
        """Return what stands in the file beside its graph, without opening the graph; empty where it is another's."""
        with zipfile.ZipFile(path) as archive:
            files = [name for name in archive.namelist() if _METADATA_FOLDERS & set(name.split("/")[:-1])]
            return {name.rpartition("/")[2]: archive.read(name).decode() for name in files}

    @staticmethod
    def list_devices() -> tuple[str, ...]:
        """Return the kinds of device that the runtime has here, the best first."""
        return ("cuda", "cpu") if torch.cuda.is_available() else ("cpu",)

    def _open(self, source: Path | bytes, precision: str) -> None:
        program = torch.export.load(source)  # type: ignore[arg-type]  # always a file
        if self.device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, self.device)
        # What was noted about the traced image's size, such as that a map of it is not contiguous or had more
        # cells a side than one, changes no answer.
        program.range_constraints.clear()
        unchecked = {"check_guards": False} if "check_guards" in inspect.signature(program.module).parameters else {}
        self._program = program.module(**unchecked)

    @torch.inference_mode()
    def _run(self, images: Tensor) -> Tensor:
        answer: Tensor = self._program(images.contiguous())
        return answer
