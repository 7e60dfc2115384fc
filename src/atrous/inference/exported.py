"""Files that `atrous export` wrote, and the descriptions in them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from atrous.core.errors import AtrousError, ConfigError, ModelFileError
from atrous.core.registry import describe_choices
from atrous.core.seal import SEAL_KEY, find_damaged_member, require_sealed
from atrous.core.system_errors import describe_reason, raise_shortage
from atrous.graphs.card import FORMAT, FORMAT_VERSION, GraphCard
from atrous.inference import BACKENDS
from atrous.inference.backends.graph_backend import Graph
from atrous.networks.contracts import Geometry
from atrous.networks.model_card import ModelCard

_BESIDE = {".xml": (".bin",)}
"""Suffixes of the files that belong to an exported file."""


class ExportedFile(Graph):
    """A file that `atrous export` wrote.

    Args:
        path: The file.
        card: The model's card from the file.
        graph: The graph's card from the file.
    """

    def __init__(self, path: Path, card: ModelCard, graph: GraphCard) -> None:
        self.path = path
        self.card = card
        self.graph = graph
        self.name = str(path)
        self.source = path
        self.num_classes = card.label_space.num_classes
        self.form = card.form
        self.aligned = graph.aligned
        self.output = graph.output
        self.output_stride = graph.output_stride
        self.bytes_per_pixel = graph.bytes_per_pixel

    def locate(self, height: int, width: int) -> Geometry:
        """Return the geometry of the logits for an image of this size in pixels: one cell for every pixel.

        Args:
            height: Height of the image in pixels.
            width: Width of the image in pixels.
        """
        return Geometry(height, width, height, width, 1, self.aligned)


def choose_backend(path: Path, wanted: str) -> str:
    """Return the name of the backend that runs an exported file.

    Args:
        path: The file, of which only the suffix counts.
        wanted: A backend; auto is the first in the table that runs such files.
    Raises:
        ConfigError: That backend does not exist, or does not run such files.
    """
    able = BACKENDS.find_tagged(path.suffix)
    if wanted == "auto":
        return able[0]
    if wanted not in able:
        problem = f"backend {wanted!r} does not run {path.suffix} files"
        raise ConfigError(
            problem if wanted in BACKENDS else f"unknown backend {wanted!r}", describe_choices(wanted, ["auto", *able])
        )
    return wanted


def is_exported(path: Path) -> bool:
    """Return whether a path has the suffix of an exported file."""
    return path.suffix != "" and bool(BACKENDS.find_tagged(path.suffix))


def is_export(path: Path) -> bool:
    """Return whether a file is one that `atrous export` wrote; the graph in it is not opened."""
    try:
        read_file(path, trust=True)
    except AtrousError:
        return False
    return True


def read_file(path: Path, *, backend: str = "auto", trust: bool = False) -> ExportedFile:
    """Read the description in an exported file, without running the file.

    Args:
        path: The file.
        backend: The backend that will run it, which reads the description too; see `choose_backend`.
        trust: Whether to open a file that can run code when it is opened.
    Raises:
        ConfigError: The backend does not run such files.
        ModelFileError: No such file, damaged, of another kind, written by a later version, or not to be trusted.
        MachineError: The runtime is not installed.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file", "Give a file that `atrous export` wrote.")
    files = [path, *(path.with_suffix(suffix) for suffix in _BESIDE.get(path.suffix, ()))]
    for file in files:
        if not file.is_file():
            raise ModelFileError(f"{path}: its weights are missing, {file}", "Keep both files in one folder.")
    if path.suffix == ".pt2" and not trust:
        raise ModelFileError(
            f"{path}: a .pt2 can run any code when it is opened",
            "If you trust where it comes from: `trust=True`. Formats onnx and openvino are safe.",
        )
    try:
        if damaged := find_damaged_member(path):
            raise ModelFileError(f"{path}: {damaged} in it is damaged", "Copy it again, or export the model again.")
        metadata: Mapping[str, str] = BACKENDS.load(choose_backend(path, backend)).read_metadata(path)
    except AtrousError:
        raise
    except Exception as error:  # each runtime raises its own errors
        raise_shortage(error, path)
        raise ModelFileError(f"{path}: cannot be read: {describe_reason(error)}", "The file is damaged.") from error
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
    require_sealed(files, metadata.get(SEAL_KEY))
    return ExportedFile(path, card, graph)
