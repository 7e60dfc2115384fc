"""Engine: prepares a network or an exported file for one device and one backend."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from atrous.core.errors import ConfigError, ModelFileError
from atrous.core.files import compute_sha256
from atrous.core.machine import find_cpu_kind
from atrous.core.registry import describe_choices
from atrous.core.system_errors import describe_reason, raise_shortage
from atrous.graphs.atrous_form import Rewriting, find_rewriting
from atrous.graphs.trace import trace_network
from atrous.inference import BACKENDS, CONVERTERS
from atrous.inference.backends.folding import copy_network, find_pairs, fold_norms
from atrous.inference.backends.graph_backend import Graph
from atrous.inference.contracts import Backend, LiveBackend, StandIn
from atrous.inference.exported import ExportedFile, choose_backend
from atrous.inference.memory import compute_budget_mib, measure_bytes_per_pixel
from atrous.inference.weights_digest import NetworkDigest
from atrous.networks.contracts import Cells, Geometry
from atrous.networks.device import find_device
from atrous.networks.segmenter import Segmenter

_CPU = torch.device("cpu")
GRAPH_SUFFIX = ".onnx"
"""Suffix of graphs that networks can be converted to; backends that run such files can also run networks."""


def list_network_backends() -> list[str]:
    """Return the names of the backends that run networks, first those that need no conversion."""
    return [*BACKENDS.find_tagged("network"), *BACKENDS.find_tagged(GRAPH_SUFFIX)]


class Engine:
    """Prepares a network or an exported file for one device and one backend.

    An engine keeps folded copies, converted graphs and open sessions for its own lifetime, and belongs to the object
    that created it. Before each image it checks whether the network's weights, hooks or parametrisations have changed,
    and prepares the network again if they have, so predictions always use its current state.

    Args:
        source: The network, which is never changed, or an exported file.
        device: auto, cpu, cuda, cuda:1, mps; auto is the first of cuda, mps and cpu that works for the backend.
        backend: A name in `BACKENDS`; auto is the first in the table that runs the source.
    Raises:
        ConfigError: The backend does not exist, or cannot run the source.
        MachineError: The device does not exist here, or a package that the backend needs is not installed.
    """

    def __init__(self, source: Segmenter | ExportedFile, *, device: str = "auto", backend: str = "auto") -> None:
        self.source = source
        self.backend = (
            _choose_network_backend(backend) if isinstance(source, Segmenter) else choose_backend(source.path, backend)
        )
        self._type = BACKENDS.load(self.backend)
        self.precisions: tuple[str, ...] = self._type.precisions
        self.device = find_device(device, self._type.list_devices())
        self.budget_mib = compute_budget_mib(self.device)
        self._lock = threading.RLock()
        self._prepared = _Prepared()
        if isinstance(source, Segmenter):
            self._digest = NetworkDigest(source)
            self._pairs: tuple[int, list[tuple[str, str]]] = (0, [])

    def share(self, backend: str) -> Engine:
        """Return an engine for the same source with another backend; both use what either has folded or converted.

        Args:
            backend: A name in `BACKENDS`.
        Raises:
            ConfigError: The backend does not exist, or cannot run the source.
            MachineError: It does not run on this engine's device, or a package that it needs is not installed.
        """
        other = Engine(self.source, device=str(self.device), backend=backend)
        other._lock, other._prepared = self._lock, self._prepared
        if isinstance(self.source, Segmenter):
            other._digest = self._digest
        return other

    @property
    def converts(self) -> bool:
        """Whether the backend needs the network converted to a graph."""
        return isinstance(self.source, Segmenter) and self.backend not in BACKENDS.find_tagged("network")

    @property
    def own_precision(self) -> str:
        """Precision of the source: that of the graph of an exported file, fp32 for a network."""
        return self.source.graph.precision if isinstance(self.source, ExportedFile) else "fp32"

    def compute_digest(self) -> str:
        """Return what tells the source in its present state from others: a digest of its weights, or of the file."""
        if isinstance(self.source, ExportedFile):
            beside = self.source.path.with_suffix(".bin")  # the weights of an .xml
            files = [self.source.path, *([beside] if self.source.path.suffix == ".xml" else [])]
            return "-".join(compute_sha256(path)[:16] for path in files)
        with self._lock:
            return self._digest.compute().hex()[:16]

    def open_backend(self, output_stride: int, precision: str) -> LiveBackend:
        """Return a backend that runs the source, one call at a time, and prepare it now if it never was.

        If the source is a network, each call of the backend uses its current weights.

        Args:
            output_stride: Input resolution / feature resolution; an exported file has only its own.
            precision: fp32 or bf16; int8 for files exported with int8.
        Raises:
            ConfigError: The source or the backend does not support the output stride or the precision.
            ModelFileError: The file cannot be opened, or the network cannot be converted.
        """
        if isinstance(self.source, ExportedFile):
            file = self._open_file(self.source, output_stride, precision)
            return _LiveBackend(self._lock, lambda: file, file)
        self.require_precision(precision)
        key = output_stride, self.source.pooling_window, precision
        with self._lock:
            example = self._prepared.backends.get((*key, self.backend)) or self.prepare(output_stride, precision)
        return _LiveBackend(self._lock, partial(self.prepare, output_stride, precision), example)

    def find_rewriting(self, precision: str) -> Rewriting | None:
        """Return which atrous convolutions of a converted network are rewritten for this machine; None if none is.

        Args:
            precision: fp32 or bf16.
        """
        if self.device.type != "cpu" or not isinstance(self.source, Segmenter):
            return None
        found = find_rewriting("auto", runtime=self.backend, precision=precision, kind=find_cpu_kind())
        dense = (each for each in self.source.modules() if isinstance(each, nn.Conv2d) and each.groups == 1)
        widest = max((each.in_channels for each in dense if max(each.kernel_size) > 1), default=0)
        # A graph in which nothing is rewritten is that of other precisions too.
        return found if found is not None and widest >= found.channels else None

    def require_precision(self, precision: str) -> None:
        """Refuse a precision in which the backend does not run networks.

        Raises:
            ConfigError: It does not.
        """
        if precision not in self.precisions or precision == "int8":
            able = " and ".join(word for word in self.precisions if word != "int8")
            raise ConfigError(
                f"precision {precision}: backend {self.backend!r} runs networks in {able}",
                "Choose another `precision` or `backend`; for int8 export the model with `int8=True`.",
            )

    @torch.inference_mode(False)
    def prepare(self, output_stride: int, precision: str) -> Backend:
        """Return a backend for the network in its current state, the same one until the network changes.

        Args:
            output_stride: Input resolution / feature resolution.
            precision: fp32 or bf16.
        Raises:
            TypeError: The source is an exported file.
        """
        network = self.source
        if not isinstance(network, Segmenter):
            raise TypeError("an exported file needs no preparation")
        with self._lock:
            self._follow(network)
            key = output_stride, network.pooling_window, precision, self.backend
            if key not in self._prepared.backends:
                if self.converts:
                    runnable: Any = self.convert(output_stride, precision)
                else:
                    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
                    runnable = self._copy(network, dtype, self.device, output_stride)
                self._prepared.backends[key] = self._type(runnable, device=self.device, precision=precision)
            return self._prepared.backends[key]

    @torch.inference_mode(False)
    def convert(self, output_stride: int, precision: str) -> ConvertedNetwork:
        """Return the network in its current state as a graph, the same one until the network changes.

        Args:
            output_stride: Input resolution / feature resolution.
            precision: fp32 or bf16, of which the form of atrous convolutions can depend.
        Raises:
            TypeError: The source is an exported file.
            ModelFileError: The network cannot be converted.
            MachineError: A package that the conversion needs is not installed.
        """
        network = self.source
        if not isinstance(network, Segmenter):
            raise TypeError("an exported file needs no conversion")
        with self._lock:
            self._follow(network)
            key = output_stride, network.pooling_window, self.find_rewriting(precision)
            if key not in self._prepared.graphs:
                copy = self._copy(network, torch.float32, _CPU, output_stride)
                self._prepared.graphs[key] = ConvertedNetwork(copy, key[-1])
            return self._prepared.graphs[key]

    def _follow(self, network: Segmenter) -> None:
        """Discard what was prepared for another state of the network."""
        digest = self._digest.compute()
        if self._prepared.digest != digest:
            self._prepared.restart(digest)

    def _copy(self, network: Segmenter, dtype: torch.dtype, device: torch.device, output_stride: int) -> Segmenter:
        """Return a folded copy at an output stride; copies of one dtype share their weights."""
        if self._pairs[0] != self._digest.num_structures:
            self._pairs = self._digest.num_structures, find_pairs(network)
        if (dtype, device) not in self._prepared.folded:
            self._prepared.folded[dtype, device] = fold_norms(network, device, dtype, pairs=self._pairs[1])
        copy = copy_network(self._prepared.folded[dtype, device], share_weights=True)
        copy.output_stride = output_stride
        copy.pooling_window = network.pooling_window
        return copy

    def _open_file(self, file: ExportedFile, output_stride: int, precision: str) -> Backend:
        if output_stride != file.output_stride:
            raise ConfigError(
                f"output stride {output_stride}: {file.path} was exported at {file.output_stride}, which is fixed",
                f"Export the model again: `output_stride={output_stride}`.",
            )
        if (precision == "int8") != (file.graph.precision == "int8"):
            raise ConfigError(
                f"precision {precision}: {file.path} computes in {file.graph.precision}",
                "Remove `precision`, or export the model again, with or without `int8=True`.",
            )
        with self._lock:
            key = output_stride, None, precision, self.backend
            if key not in self._prepared.backends:
                self._prepared.backends[key] = self._type(file, device=self.device, precision=precision)
            return self._prepared.backends[key]


@dataclass
class _Prepared:
    """Prepared objects for one state of a source.

    Args:
        digest: Digest of the network; empty for an exported file.
        folded: Folded copies by dtype and device.
        graphs: Converted networks by output stride, pooling window and rewritten rate.
        backends: Backends by output stride, pooling window, precision and name.
    """

    digest: bytes = b""
    folded: dict[tuple[torch.dtype, torch.device], Segmenter] = field(default_factory=dict)
    graphs: dict[tuple[int, int | None, Rewriting | None], ConvertedNetwork] = field(default_factory=dict)
    backends: dict[tuple[int, int | None, str, str], Backend] = field(default_factory=dict)

    def restart(self, digest: bytes) -> None:
        """Discard everything, for a network that has changed; engines that share this object see it.

        Args:
            digest: Digest of the network.
        """
        self.digest = digest
        for prepared in (self.folded, self.graphs, self.backends):
            prepared.clear()


class _LiveBackend(StandIn):
    """A backend that finds, for each call, what has been prepared for the source in its present state.

    Args:
        lock: Held during a call, which may take every core and the whole memory budget.
        find: Returns the prepared backend.
        example: One that `find` has returned, or would return.
    """

    def __init__(self, lock: AbstractContextManager[bool], find: Callable[[], Backend], example: Backend) -> None:
        super().__init__(example)
        self._lock = lock
        self._find = find

    def hold(self) -> Backend:
        """Return a backend for the present state of the source; see `LiveBackend`."""
        found = self._find()
        return _LiveBackend(self._lock, lambda: found, found)

    def __call__(self, images: Tensor) -> Cells:
        """Run the source on a batch of images; see `Backend`."""
        with self._lock:
            return self._find()(images)

    def label(self, images: Tensor) -> Tensor:
        """Return the most likely class of each pixel; see `Backend`."""
        with self._lock:
            return self._find().label(images)

    def measure_bytes_per_pixel(self) -> float:
        """Return the bytes of memory that a forward pass needs per pixel of the image."""
        return self._find().measure_bytes_per_pixel()


class ConvertedNetwork(Graph):
    """A network as a graph in memory, for backends that do not run PyTorch's networks.

    Args:
        network: The folded network, on the CPU and at the output stride of the graph.
        rewriting: Which atrous convolutions are written as sums over taps. None: none are.
    Raises:
        ModelFileError: The network cannot be converted.
        MachineError: A required package is not installed.
    """

    name = "the network"
    output = "cells"

    def __init__(self, network: Segmenter, rewriting: Rewriting | None = None) -> None:
        convert = CONVERTERS.load("onnx")
        self.num_classes = network.num_classes
        self.form = network.backbone.input_spec.form
        self.aligned = network.aligned
        self.output_stride = network.output_stride
        self._stride = network.head.find_stride(network.output_stride)
        twin = copy_network(network, share_weights=True, keep_hooks=False)
        self.bytes_per_pixel = measure_bytes_per_pixel(twin, _CPU)
        try:
            model = convert(trace_network(network, "cells"))
            if rewriting is not None:
                CONVERTERS.load("taps")(model, rewriting)
            self.source: bytes = model.SerializeToString()
        except Exception as error:  # the converter has errors of its own
            raise_shortage(error)
            raise ModelFileError(f"the network cannot be converted: {describe_reason(error)}") from error

    def locate(self, height: int, width: int) -> Geometry:
        """Return the positions of the cells; the graph itself pads the image.

        Args:
            height: Height of the image in pixels.
            width: Width of the image in pixels.
        """
        return Geometry(height, width, height, width, self._stride, self.aligned)


def _choose_network_backend(wanted: str) -> str:
    able = list_network_backends()
    if wanted == "auto":
        return able[0]
    if wanted not in able:
        problem = f"backend {wanted!r} runs exported files, not networks"
        raise ConfigError(
            problem if wanted in BACKENDS else f"unknown backend {wanted!r}", describe_choices(wanted, ["auto", *able])
        )
    return wanted
