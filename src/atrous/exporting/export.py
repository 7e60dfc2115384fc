"""Exports a network: trace, convert, run, compare, and only then give the file its name."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from atrous.core.errors import AtrousError, ModelFileError, UsageError
from atrous.core.files import atomic_path
from atrous.core.machine import find_cpu_kind
from atrous.core.output_folder import require_place, require_replaceable
from atrous.core.records import MessageCallback, Note, send_message
from atrous.core.seal import SEAL_KEY, draw_seal, seal_files
from atrous.core.system_errors import describe_reason, raise_shortage
from atrous.core.words import describe_count
from atrous.exporting import FORMATS
from atrous.exporting.contracts import Format
from atrous.exporting.parity import Parity, draw_images, measure_parity, require_parity
from atrous.graphs.atrous_form import Rewriting, find_rewriting
from atrous.graphs.card import GraphCard, write_metadata
from atrous.graphs.trace import trace_network
from atrous.inference.backends.folding import copy_network, fold_norms
from atrous.inference.engine import Engine
from atrous.inference.exported import ExportedFile, is_export
from atrous.inference.memory import measure_bytes_per_pixel
from atrous.networks.model_card import ModelCard
from atrous.networks.model_file import find_input_form
from atrous.networks.segmenter import Segmenter

PACKAGES = ("atrous", "torch")
_CPU = torch.device("cpu")


def require_export_place(path: Path, format: str, *, overwrite: bool) -> None:
    """Refuse a path at which an export cannot be written, or would replace what no export wrote.

    Args:
        path: The file.
        format: A name in `FORMATS`.
        overwrite: Whether to replace whatever exists.
    Raises:
        UsageError: There cannot be such a file, or it or one beside it would be lost.
        MachineError: There is no permission to write there, no space, or a package of the format is missing.
    """
    require_place(path)
    form: type[Format] = FORMATS.load(format)
    files = [path, *(path.with_suffix(suffix) for suffix in form.beside)]
    require_replaceable(files, is_own=is_export(path), overwrite=overwrite)


def export_network(
    network: Segmenter,
    card: ModelCard,
    path: Path,
    *,
    output_stride: int | None = None,
    format: str = "onnx",
    argmax: bool = False,
    calibration: Sequence[np.ndarray] | None = None,
    atrous: str = "native",
    on_message: MessageCallback | None = None,
) -> Parity:
    """Write a network as a graph for another runtime, with everything that predicting needs.

    The file is run in its runtime, and its output compared with the network's, before it gets its name.

    Args:
        network: The network, which is left as it is: a copy is exported.
        card: The model's card.
        path: The file.
        output_stride: Input resolution / feature resolution of the file, which is fixed in it. Default: the network's.
        format: A name in `FORMATS`.
        argmax: Whether the graph returns each pixel's class index instead of its logits.
        calibration: Calibration images, at least two, for 8 bits. Every second one is held out, and the file is
            compared on those. Default: fp32.
        atrous: native, taps, or auto: how the graph has its atrous convolutions, see `find_rewriting`.
        on_message: Receives a message about each step.
    Shapes:
        calibration (H, W, C) each, in the form of the network.
    Raises:
        UsageError: The file's name does not fit its format, or there are fewer than two calibration images.
        ConfigError: The network cannot have the output stride, the format has no 8 bits or not this form of atrous
            convolutions.
        ModelFileError: The network cannot be converted, or the file's output differs; no file is left.
        MachineError: A package that the format needs is not installed.
    """
    form: type[Format] = FORMATS.load(format)
    if path.suffix != form.suffix:
        raise UsageError(
            f"{path}: a file of the format {format} ends in {form.suffix}", f"`out={path.stem}{form.suffix}`"
        )
    if calibration is not None and len(calibration) < 2:
        raise UsageError(
            "int8: fewer than two calibration images", "Give a folder with some dozens of them: `calibrate=FOLDER`."
        )

    precision: Literal["fp32", "int8"] = "fp32" if calibration is None else "int8"
    rewriting = find_rewriting(atrous, runtime=form.runtime, precision=precision, kind=find_cpu_kind())
    network = copy_network(network).cpu().eval()  # a traced program would keep the device, and files open anywhere
    if output_stride is not None:
        network.output_stride = output_stride
    statistics = {name: network.get_buffer(name).flatten().tolist() for name in ("mean", "std")}
    card = replace(card, normalisation=statistics, input_form=find_input_form(network))
    graph = GraphCard(
        output="labels" if argmax else "logits",
        output_stride=network.output_stride,
        aligned=network.aligned,
        precision=precision,
        # The graph enlarges logits to every pixel, which it holds three times: half done, done, and as its output.
        bytes_per_pixel=measure_bytes_per_pixel(network, _CPU) + 3 * 4 * network.num_classes,
        versions={name: importlib.metadata.version(name) for name in (*PACKAGES, *form.packages)},
    )
    send_message(on_message, f"converting to {format} at output stride {network.output_stride}")
    written = _convert(network, form, graph, path, calibration, rewriting)
    if written.rewritten:
        graph = replace(graph, atrous="taps")
        count = describe_count(written.rewritten, "atrous convolution")
        send_message(on_message, Note("atrous-taps", f"{count} as sums over taps"))
    with _atomic_files(path, form.beside) as temporary:
        written.save(temporary, write_metadata(card, graph))
        engine = Engine(ExportedFile(temporary, card, graph), device="cpu")
        send_message(on_message, f"running it in {engine.backend}")
        backend = engine.open_backend(graph.output_stride, graph.precision)
        compared = draw_images(card.form) if calibration is None else _batch(calibration[1::2])
        parity = measure_parity(network, backend, compared)
        require_parity(parity, str(path), graph.precision)
        metadata = write_metadata(card, replace(graph, parity=parity.to_json()))
        if form.is_archive:  # which has checksums of its own
            written.save(temporary, metadata)
        else:
            seal = draw_seal()
            written.save(temporary, metadata | {SEAL_KEY: seal})
            seal_files([temporary, *map(temporary.with_suffix, form.beside)], seal)
    return parity


def _convert(
    network: Segmenter,
    form: type[Format],
    graph: GraphCard,
    path: Path,
    calibration: Sequence[np.ndarray] | None,
    rewriting: Rewriting | None,
) -> Format:
    """Return the graph of a network, calibrated on every second image."""
    try:
        folded = fold_norms(network, _CPU)
        images = None if calibration is None else calibration[::2]
        return form(trace_network(folded, graph.output), images, rewriting=rewriting)
    except AtrousError:
        raise
    except Exception as error:  # each converter raises its own errors
        raise_shortage(error)
        raise ModelFileError(
            f"{path}: the network cannot be converted: {type(error).__name__}: {describe_reason(error)}",
            "Try another `format`.",
        ) from error


def _batch(images: Sequence[np.ndarray]) -> Iterator[Tensor]:
    """Yield each image (H, W, C) as a batch (1, C, H, W)."""
    for image in images:
        yield torch.from_numpy(image).permute(2, 0, 1)[None]


@contextmanager
def _atomic_files(path: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Yield a temporary path; give the file there, and those beside it, their final names together or not at all.

    `path` itself gets its name last. Files that are replaced come back if anything fails; a process that is killed in
    between leaves no file at `path`, rather than one that belongs to other files beside it.

    Args:
        path: The final path.
        suffixes: Suffixes of the files beside it.
    """
    beside = [path.with_suffix(suffix) for suffix in suffixes]
    replaced: dict[Path, Path] = {}
    placed: list[Path] = []
    unplaced: list[Path] = []
    try:
        with atomic_path(path) as temporary:
            unplaced = [temporary.with_suffix(suffix) for suffix in suffixes]
            yield temporary
            for final in (path, *beside) if beside else ():
                if final.is_file():
                    backup = temporary.with_name(f"{temporary.stem}-old{final.suffix}")
                    final.replace(backup)
                    replaced[final] = backup
            for final in beside:
                temporary.with_suffix(final.suffix).replace(final)
                placed.append(final)
    except BaseException:
        for final in placed:
            final.unlink()
        for final, backup in replaced.items():
            backup.replace(final)
        raise
    finally:  # after `atomic_path` has found out whether the disk is full, which it would not be without them
        for file in unplaced:
            file.unlink(missing_ok=True)
    for backup in replaced.values():
        backup.unlink()
