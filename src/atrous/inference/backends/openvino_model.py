"""Runs an ONNX graph, or an OpenVINO .xml file, in OpenVINO, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
import openvino
import torch
from openvino.frontend import FrontEndManager
from torch import Tensor

from atrous.core.errors import MachineError
from atrous.graphs.onnx_metadata import read_onnx_metadata
from atrous.inference.backends.graph_backend import GraphBackend
from atrous.networks.device import count_threads

RUNTIME_INFO = "atrous"
"""The section of an .xml file that holds its metadata."""

CACHED_PRIMITIVES = 256
"""Kernels that OpenVINO keeps: those of a few sizes of images. Its own limit is 5000, which takes gigabytes.

Fewer would not save memory: oneDNN, which OpenVINO contains, keeps 1024 kernels for the whole process, and thus after
some hundred sizes of images a few hundred MiB, which then no longer grow. Only a variable of the environment limits
these, ONEDNN_PRIMITIVE_CACHE_CAPACITY, which PyTorch reads too. Without both caches a folder of two sizes takes a fifth
longer.
"""

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


def read_graph(source: Path | bytes) -> openvino.Model:
    """Read an .xml file, or an ONNX graph from a file or its bytes.

    Raises:
        RuntimeError: The graph is damaged; also memory that is short, with a text of OpenVINO.
        MachineError: OpenVINO could not load its library for such graphs.
    """
    try:
        return find_core().read_model(source)
    except RuntimeError as error:
        kind = "ir" if isinstance(source, Path) and source.suffix == ".xml" else "onnx"
        if kind in FrontEndManager().get_available_front_ends():
            raise
        # OpenVINO leaves out a library that cannot be loaded, and then finds no one to read the graph.
        raise MachineError(
            f"OpenVINO cannot load its library that reads {'.xml files' if kind == 'ir' else 'ONNX graphs'}: "
            "not enough memory, or its installation is damaged",
            "Close other programs; if that does not help, install openvino again.",
        ) from error


class OpenVinoModel(GraphBackend):
    """An ONNX graph, or an .xml file with its .bin, as a function from images to cells; see `GraphBackend`."""

    precisions = ("fp32", "bf16", "int8")

    @staticmethod
    def read_metadata(path: Path) -> Mapping[str, str]:
        """Return the metadata of a file; empty if another program wrote it."""
        if path.suffix == ".onnx":
            return read_onnx_metadata(path)
        model = read_graph(path)
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
        self._model = find_core().compile_model(read_graph(source), "CPU", settings)

    def _run(self, images: Tensor) -> Tensor:
        # Not torch's contiguous(): its threads would then spin on the cores that the runtime needs.
        answer = self._model([np.ascontiguousarray(images.numpy())])[0]
        return torch.from_numpy(answer.copy())  # the runtime writes the next answer into the same memory
