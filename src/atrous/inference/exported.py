"""A file that `atrous export` wrote as a model: what it says of itself, and what its runtimes share."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from atrous.core.errors import AtrousError, ConfigError, MachineError, ModelFileError
from atrous.core.registry import describe_choices
from atrous.inference import BACKENDS
from atrous.inference.memory import is_out_of_memory
from atrous.networks.contracts import Cells, Geometry
from atrous.networks.model_file import ModelCard

FORMAT = "atrous-graph"
FORMAT_VERSION = 1
RUNTIMES: dict[str, tuple[str, ...]] = {".onnx": ("onnxruntime", "openvino"), ".xml": ("openvino",), ".pt2": ("pt2",)}
"""Backends that can run a file, by its suffix; the first one does unless another is asked for."""


@dataclass(frozen=True)
class GraphCard:
    """What a file says of its graph besides the model's card.

    Args:
        output: Whether it gives logits of every pixel, or the index of each pixel's likeliest class.
        output_stride: Input resolution / feature resolution, which cannot be changed any more.
        aligned: How scaled copies of a picture are to be made, as in `Geometry`.
        bytes_per_pixel: Memory that the network's forward pass needed for each pixel of the picture.
        versions: Versions of the software that wrote the file.
        parity: How far its answers were from the living network's; empty while that is being found out.
    """

    output: Literal["logits", "labels"]
    output_stride: int
    aligned: bool
    bytes_per_pixel: float
    versions: dict[str, str] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> GraphCard:
        """Build a card; unknown fields of later versions are left out."""
        card = cls(**{name: value[name] for name in cls.__dataclass_fields__ if name in value})
        if card.output not in ("logits", "labels"):
            raise ValueError(f"output: {card.output!r}")
        return card


def write_metadata(card: ModelCard, graph: GraphCard) -> dict[str, str]:
    """Return what stands in a file beside its graph, and `read_file` reads."""
    return {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "card": json.dumps(card.to_json()),
        "graph": json.dumps(asdict(graph)),
    }


class ExportedFile:
    """A file that `atrous export` wrote, which one of several runtimes runs.

    Args:
        path: The file.
        card: What it says of its model.
        graph: What it says of its graph.
    """

    def __init__(self, path: Path, card: ModelCard, graph: GraphCard) -> None:
        self.path = path
        self.card = card
        self.graph = graph
        self._opened: dict[tuple[str, torch.device, str], FileBackend] = {}

    @property
    def num_classes(self) -> int:
        """Scored classes, the ignore index not counted."""
        return self.card.label_space.num_classes

    @property
    def output_stride(self) -> int:
        """Input resolution / feature resolution, as exported."""
        return self.graph.output_stride

    def open(self, runtime: str, *, device: torch.device, precision: str) -> FileBackend:
        """Return what runs the file, the same object for the same wishes: opening takes longer than a picture.

        Raises:
            ModelFileError: The runtime cannot open it.
            ConfigError: The runtime has not the precision.
        """
        key = runtime, device, precision
        if key not in self._opened:
            self._opened[key] = BACKENDS.load(runtime)(self, device=device, precision=precision)
        return self._opened[key]


def choose_runtime(path: Path, wanted: str) -> str:
    """Return the backend that is to run a file; "auto" is the format's own.

    Raises:
        ConfigError: That backend cannot run such files.
    """
    able = RUNTIMES[path.suffix]
    if wanted != "auto" and wanted not in able:
        raise ConfigError(f"backend {wanted!r} does not run {path.suffix} files", describe_choices(wanted, list(able)))
    return able[0] if wanted == "auto" else wanted


def read_file(path: Path, *, runtime: str, trust: bool = False) -> ExportedFile:
    """Read what an exported file says of itself, without running it.

    Args:
        path: The file.
        runtime: The backend that is to run it, which reads it too.
        trust: Whether a file that can run code when it is opened may be opened.
    Raises:
        ModelFileError: No such file, damaged, of another kind, written by a later version, or not to be trusted.
        MachineError: The runtime is not installed.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file", "Give a file that `atrous export` wrote.")
    if path.suffix == ".pt2" and not trust:
        raise ModelFileError(
            f"{path}: a .pt2 can run any code when it is opened",
            "If you trust where it comes from: --trust, in Python trust=True. Formats onnx and openvino are safe.",
        )
    try:
        metadata: Mapping[str, str] = BACKENDS.load(runtime).read_metadata(path)
    except AtrousError:
        raise
    except Exception as error:  # each runtime has errors of its own
        raise ModelFileError(f"{path}: cannot be read: {_first_line(error)}", "The file is damaged.") from error
    if metadata.get("format") != FORMAT:
        raise ModelFileError(f"{path}: was not written by atrous", "Export a model of yours: `atrous export MODEL`.")
    try:
        version = int(metadata["format_version"])
        card = ModelCard.from_json(json.loads(metadata["card"]))
        graph = GraphCard.from_json(json.loads(metadata["graph"]))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: its description is damaged: {error}", "Export it again.") from error
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"{path}: has format {version}; this atrous reads up to {FORMAT_VERSION}", "Update atrous."
        )
    return ExportedFile(path, card, graph)


class FileBackend:
    """What the runtimes of exported files share. Abstract.

    Args:
        file: What is run.
        device: Where it runs, of a kind that the runtime has.
        precision: "fp32", or "bf16" where the runtime has it.
    Raises:
        ConfigError: The runtime has not the precision.
        ModelFileError: The runtime cannot open the file.
    """

    precisions: tuple[str, ...] = ("fp32",)

    def __init__(self, file: ExportedFile, *, device: torch.device, precision: str) -> None:
        if precision not in self.precisions:
            raise ConfigError(
                f"precision {precision}: an exported file runs in {' or '.join(self.precisions)} with this backend",
                "Leave --precision out.",
            )
        self.file = file
        self.device = device
        self.num_classes = file.num_classes
        self.aligned = file.graph.aligned
        self.labels_only = file.graph.output == "labels"
        try:
            self._open(file.path, precision)
        except Exception as error:  # each runtime has errors of its own
            raise ModelFileError(f"{file.path}: cannot be opened: {_first_line(error)}", "Export it again.") from error

    @staticmethod
    @abstractmethod
    def read_metadata(path: Path) -> Mapping[str, str]:
        """Return what stands in the file beside its graph; empty where it is another's."""

    @staticmethod
    @abstractmethod
    def list_devices() -> tuple[str, ...]:
        """Return the kinds of device that the runtime has here, the best first."""

    @abstractmethod
    def _open(self, path: Path, precision: str) -> None:
        """Make ready to run."""

    @abstractmethod
    def _run(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> what the graph gives."""

    def __call__(self, pictures: Tensor) -> Cells:
        """(B, 3, H, W) uint8, or floats in [0, 1] -> cells of stride 1, with logits (B, K, H, W).

        Floats are rounded to whole steps of 0 to 255, which is what the graph takes.

        Raises:
            MachineError: The memory does not suffice.
            ModelFileError: The graph is not what its description says.
        """
        height, width = pictures.shape[2:]
        logits = self._answer(pictures, (len(pictures), self.num_classes, height, width))
        return Cells(logits, None, Geometry(height, width, height, width, 1, self.aligned))

    def label(self, pictures: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> class indices (B, H, W), where the file gives labels alone; errors as of a call."""
        return self._answer(pictures, (len(pictures), *pictures.shape[2:]))

    def _answer(self, pictures: Tensor, expected: tuple[int, ...]) -> Tensor:
        height, width = pictures.shape[2:]
        if pictures.is_floating_point():
            pictures = (pictures * 255).round().to(torch.uint8)
        try:
            answer = self._run(pictures.to(self.device).contiguous())
        except Exception as error:  # each runtime has errors of its own
            if is_out_of_memory(error) or "alloc" in str(error):
                raise MachineError(
                    f"a picture of {height} x {width} pixels does not fit in the memory of {self.device}",
                    "Label it in windows, such as --window 513, or with smaller scales.",
                ) from error
            raise ModelFileError(
                f"{self.file.path}: fails on a picture of {height} x {width} pixels: {_first_line(error)}",
                "Export it again.",
            ) from error
        if tuple(answer.shape) != expected:
            raise ModelFileError(
                f"{self.file.path}: gave {tuple(answer.shape)} where its description says {expected}",
                "Export it again.",
            )
        return answer

    def measure_bytes_per_pixel(self) -> float:
        """Return how much memory a forward pass needs for each pixel of the picture."""
        return self.file.graph.bytes_per_pixel


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
