"""Runs a graph in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from atrous.graphs.onnx_metadata import read_onnx_metadata
from atrous.inference.backends.graph_backend import GraphBackend
from atrous.networks.device import count_threads

_PROVIDERS = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}
_ERRORS_ONLY = 3


class OnnxSession(GraphBackend):
    """An ONNX graph as a function from images to cells; see `GraphBackend`."""

    precisions = ("fp32", "int8")

    @staticmethod
    def read_metadata(path: Path) -> Mapping[str, str]:
        """Return the metadata of a file; empty if another program wrote it."""
        return read_onnx_metadata(path)

    @staticmethod
    def list_devices() -> tuple[str, ...]:
        """Return the kinds of device that the runtime can use here, the best first."""
        installed = onnxruntime.get_available_providers()
        known = {kind for kind, provider in _PROVIDERS.items() if provider in installed}
        return ("cuda", "cpu") if "cuda" in known and torch.cuda.is_available() else ("cpu",)

    def _open(self, source: Path | bytes, precision: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = count_threads()
        options.log_severity_level = _ERRORS_ONLY
        provider = _PROVIDERS[self.device.type]
        chosen = (provider, {"device_id": self.device.index or 0}) if self.device.type == "cuda" else provider
        self._session = onnxruntime.InferenceSession(source, options, providers=[chosen])
        self._input_name = self._session.get_inputs()[0].name
        if provider not in self._session.get_providers():  # otherwise it would silently use the CPU
            raise RuntimeError(f"ONNX Runtime cannot use {self.device} here")

    def _run(self, images: Tensor) -> Tensor:
        [answer] = self._session.run(None, {self._input_name: np.ascontiguousarray(images.cpu().numpy())})
        return torch.from_numpy(answer).to(self.device)
