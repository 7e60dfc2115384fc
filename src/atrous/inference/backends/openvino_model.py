"""Runs an ONNX graph, or an OpenVINO .xml file, in OpenVINO, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import openvino
import torch
from torch import Tensor

from atrous.graphs.onnx_metadata import read_onnx_metadata
from atrous.inference.backends.graph_backend import GraphBackend
from atrous.networks.device import count_threads

RUNTIME_INFO = "atrous"
"""The section of an .xml file that holds its metadata."""

CACHED_PRIMITIVES = 256
"""Kernels that OpenVINO keeps: those of a few sizes of images. Its own limit is 5000, which takes gigabytes."""

_DEFAULT_TYPES = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""The type of operations for which the graph itself names none."""


@cache
def find_core() -> openvino.Core:
    """Return OpenVINO's core, of which a process has one that is never freed.

    The CPU plugin of a core gives the thread that first uses it a stack for signals, and frees that stack with the
    core. If this happens in another thread, or not in the order in which cores were made, the next signal ends the
    process.
    """
    return openvino.Core()


class OpenVinoModel(GraphBackend):
    """An ONNX graph, or an .xml file with its .bin, as a function from images to cells; see `GraphBackend`."""

    precisions = ("fp32", "bf16", "int8")

    @staticmethod
    def read_metadata(path: Path) -> Mapping[str, str]:
        """Return the metadata of a file; empty if another program wrote it."""
        if path.suffix == ".onnx":
            return read_onnx_metadata(path)
        model = find_core().read_model(path)
        if not model.has_rt_info([RUNTIME_INFO]):
            return {}
        return {key: value.astype(str) for key, value in model.get_rt_info([RUNTIME_INFO]).astype(dict).items()}

    @staticmethod
    def list_devices() -> tuple[str, ...]:
        """Return the kinds of device that the runtime can use here, the best first."""
        return ("cpu",)

    def _open(self, source: Path | bytes, precision: str) -> None:
        settings = {
            "INFERENCE_PRECISION_HINT": _DEFAULT_TYPES[precision],  # otherwise some CPUs use bf16
            "INFERENCE_NUM_THREADS": count_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            "CPU_RUNTIME_CACHE_CAPACITY": CACHED_PRIMITIVES,
        }
        core = find_core()
        self._model = core.compile_model(core.read_model(source), "CPU", settings)

    def _run(self, images: Tensor) -> Tensor:
        # Not torch's contiguous(): its threads would then spin on the cores that the runtime needs.
        answer = self._model([np.ascontiguousarray(images.numpy())])[0]
        return torch.from_numpy(answer.copy())  # the runtime writes the next answer into the same memory
