"""The public calls: build, load, train, evaluate, predict, export; a few lines each over the rooms below."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from atrous.config.load import load_config
from atrous.core.errors import ConfigError, UsageError
from atrous.core.files import save_json, shorten_paths
from atrous.core.provenance import collect_provenance
from atrous.core.records import MessageCallback, ProgressCallback, Protocol, Scores, send_message
from atrous.core.run_folder import CONFIG_NAME, METRICS_NAME
from atrous.data.build import PYTHON_SOURCE, read_splits
from atrous.data.contracts import SegmentationDataset, Splits
from atrous.exporting import FORMATS
from atrous.exporting.calibration import read_images, sample_images
from atrous.exporting.export import export_network
from atrous.exporting.parity import Parity
from atrous.inference.folders.writer import PredictionRecord, save_predictions
from atrous.inference.labelling.labeller import Predictor
from atrous.inference.labelling.likeliest import name_last_stage
from atrous.model import Model, load
from atrous.networks.build import build_network_from
from atrous.networks.segmenter import Segmenter
from atrous.networks.weights import start_weights
from atrous.reports.plots import save_bench_plot
from atrous.runs.scored_data import find_scored_data, is_run, rebuild_splits
from atrous.runs.stages import (
    Run,
    plan_training,
    preview_training,
    run_training,
)
from atrous.scoring import crf_search
from atrous.scoring.bench import bench as run_bench
from atrous.scoring.count import score
from atrous.scoring.crf_search import CrfTrial

__all__ = [
    "CONFIG_NAME",
    "METRICS_NAME",
    "Model",
    "Run",
    "build",
    "evaluate",
    "export",
    "load",
    "plan_training",
    "predict",
    "preview_training",
    "rebuild_splits",
    "run_training",
    "train",
]


def build(
    name: str = "deeplabv3-lite0", *, classes: int, weights: str = "none", output_stride: int = 16, **options: Any
) -> Segmenter:
    """Build a network: (B, 3, H, W) uint8 or [0, 1] floats -> logits (B, classes, H, W).

    Args:
        name: `<family>-<backbone>`, see `atrous models`.
        classes: Scored classes.
        weights: none, imagenet, a file, or a published model such as torchvision/deeplabv3_resnet50.
        output_stride: Input resolution / feature resolution, settable later on the network.
        options: Other fields of the model's settings, such as `multi_grid=(1, 2, 4)` or `head={"rates": [6, 12]}`.
    Raises:
        ConfigError: An unknown name or option, or a stride that the network cannot have.
    """
    model = {"name": name, "weights": weights, "output_stride": output_stride, **options}
    network = build_network_from(model, classes)
    start_weights(network, name, weights)
    return network


def train(
    data: str | Path | Splits | tuple[SegmentationDataset, SegmentationDataset],
    *,
    model: str | None = None,
    recipe: str | Path | None = None,
    out: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    progress: ProgressCallback | None = None,
    on_message: MessageCallback | None = None,
    **options: Any,
) -> Run:
    """Train a network.

    Args:
        data: A registered name, `name=PATH`, a folder, or a pair of Python data sets: to train on, and to score on.
        model: `<family>-<backbone>`, see `atrous models`.
        recipe: A YAML file or a shipped recipe.
        out: The run's folder; runs/<data>-<model>-<number> where left out.
        set: Any setting by its dotted key, such as {"training.norm": "frozen"}.
        progress: Receives the progress.
        on_message: Receives messages about automatic choices and findings.
        options: Fields by their own name: epochs, iterations, max_minutes, batch, crop, lr, seed, weights, workers...
    Raises:
        ConfigError: A setting that is unknown or impossible.
        DataError: Data that cannot be trained on.
        UsageError: The folder holds a run already, or the objects are no data sets.
    """
    splits = None if isinstance(data, str | Path) else read_splits(data)
    source = str(data) if splits is None else PYTHON_SOURCE
    given = {"data.source": source, "model.name": model, "output.folder": str(out) if out else None}
    loaded = load_config(recipe=recipe, options={**given, **options, **(set or {})})
    return run_training(loaded, splits=splits, progress=progress, on_message=on_message)


def evaluate(
    model: Model | Run | str | Path,
    data: SegmentationDataset | str | Path | None = None,
    *,
    output_stride: int | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    window: int | None = None,
    precision: str = "auto",
    crf: bool | Mapping[str, Any] = False,
    device: str = "auto",
    backend: str = "auto",
    trust: bool = False,
    data_root: str | None = None,
    progress: ProgressCallback | None = None,
    on_message: MessageCallback | None = None,
) -> Scores:
    """Score a model on images with masks, each at its own size.

    Args:
        model: A model, a run, or what `load` opens.
        data: What to score on, every pair of it; a run's own validation data where left out.
        output_stride: The build's where left out.
        scales: Scales whose probabilities are averaged.
        flip: Whether the mirrored image is averaged in.
        window: Side of a sliding window in pixels; where left out, as in the validations of its training.
        precision: fp32 or bf16; auto as in the validations of its training.
        crf: Whether DenseCRF follows the network, or its options; the score without it is given too.
        device: auto, cpu, cuda, cuda:1, mps.
        backend: torch, compile, openvino or onnxruntime; auto is torch, or an exported file's own.
        trust: Whether to open a .pt2, which can run any code that it holds.
        data_root: Folder in which registered data sets are looked for.
        progress: Receives the progress.
        on_message: Receives messages about automatic choices and findings.
    Raises:
        UsageError: No data is given and the model is no run.
        ModelFileError: The model cannot be opened.
        DataError: The data's classes are not the model's, or a file cannot be read.
    """
    options = {"output_stride": output_stride, "scales": tuple(scales), "flip": flip, "crf": crf}
    opening = {"device": device, "backend": backend, "trust": trust}
    predictor, dataset = _prepare_scoring(
        model,
        data,
        window=window,
        precision=precision,
        opening=opening,
        data_root=data_root,
        on_message=on_message,
        **options,
    )
    return score(predictor, dataset, progress=progress)


def search_crf(
    model: Model | Run | str | Path,
    data: SegmentationDataset | str | Path | None = None,
    *,
    output_stride: int | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    window: int | None = None,
    precision: str = "auto",
    device: str = "auto",
    backend: str = "auto",
    trust: bool = False,
    data_root: str | None = None,
    progress: ProgressCallback | None = None,
    on_message: MessageCallback | None = None,
) -> tuple[CrfTrial, ...]:
    """Score a few settings of DenseCRF on some of the images, best first; arguments as those of `evaluate`.

    Raises:
        UsageError: No data is given and the model is no run.
        ModelFileError: The model cannot be opened.
        DataError: The data's classes are not the model's, or a file cannot be read.
    """
    options = {"output_stride": output_stride, "scales": tuple(scales), "flip": flip}
    opening = {"device": device, "backend": backend, "trust": trust}
    predictor, dataset = _prepare_scoring(
        model,
        data,
        window=window,
        precision=precision,
        opening=opening,
        data_root=data_root,
        on_message=on_message,
        **options,
    )
    return crf_search.search_crf(predictor, dataset, progress=progress)


def predict(
    inputs: str | Path | Sequence[str | Path],
    model: Model | Run | str | Path,
    out: str | Path,
    *,
    output_stride: int | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    window: int | None = None,
    precision: str = "auto",
    crf: bool | Mapping[str, Any] = False,
    device: str = "auto",
    backend: str = "auto",
    trust: bool = False,
    formats: Sequence[str] = ("labels", "overlay"),
    probabilities: bool = False,
    min_confidence: float | None = None,
    progress: ProgressCallback | None = None,
    on_message: MessageCallback | None = None,
) -> PredictionRecord:
    """Label files, folders and globs into a folder.

    Args:
        inputs: Images, folders (sub-folders are mirrored) and globs.
        model: A model, a run, or what `load` opens.
        out: Folder of the results.
        output_stride: The build's where left out.
        scales: Scales whose probabilities are averaged.
        flip: Whether the mirrored image is averaged in.
        window: Side of a sliding window in pixels.
        precision: auto, fp32 or bf16; auto is bf16 where the machine gains by it and the model was seen to bear it.
        crf: Whether DenseCRF follows the network, or its options.
        device: auto, cpu, cuda, cuda:1, mps.
        backend: torch, compile, openvino or onnxruntime; auto is torch, or an exported file's own.
        trust: Whether to open a .pt2, which can run any code that it holds.
        formats: labels are always written; overlay and confidence beside them. TIFFs of more than 64 megapixels, which
            are never whole in memory, get labels alone.
        probabilities: Whether to write the probabilities of every class.
        min_confidence: Pixels below it get the data's ignored id.
        progress: Receives the progress.
        on_message: Receives messages about automatic choices and findings.
    Raises:
        UsageError: An input does not exist, two have one output name, or `out` lies in an input folder.
        ModelFileError: The model cannot be opened.
    """
    opened, _ = _open(model, device, backend, trust=trust)
    predictor = opened.build_predictor(
        output_stride=output_stride,
        scales=tuple(scales),
        flip=flip,
        window=window,
        precision=precision,
        backend=backend,
        crf=crf,
        on_message=on_message,
    )
    return save_predictions(
        predictor,
        [inputs] if isinstance(inputs, str | Path) else inputs,
        Path(out),
        overlay="overlay" in formats,
        confidence="confidence" in formats,
        probabilities=probabilities,
        min_confidence=min_confidence or 0.0,
        progress=progress,
    )


def bench(
    models: Sequence[str],
    sizes: Sequence[tuple[int, int]],
    *,
    output_strides: Sequence[int | None] = (None,),
    precisions: Sequence[str] = ("fp32",),
    backends: Sequence[str] = ("auto",),
    data: str | Path | None = None,
    rounds: int = 10,
    out: Path | None = None,
    device: str = "auto",
    data_root: str | None = None,
    trust: bool = False,
    progress: ProgressCallback | None = None,
    on_message: MessageCallback | None = None,
) -> dict[str, Any]:
    """Time models side by side under every combination of backend, output stride and precision.

    Args:
        models: What `load` opens.
        sizes: Heights and widths of the images, in pixels.
        output_strides: None for the build's.
        precisions: auto, fp32, bf16, of living networks; exported files have their own.
        backends: What runs them, see `load`. One that does not run a model, or has not the precision, is left out.
        data: What to score each on, or None.
        rounds: Timed turns of each.
        out: Folder for `bench.json` and `bench.png`, or None.
        device: auto, cpu, cuda, cuda:1, mps.
        data_root: Folder in which registered data sets are looked for.
        trust: Whether to open a .pt2, which can run any code that it holds.
        progress: Receives the progress.
        on_message: Receives messages about automatic choices and findings.
    Returns: The rows, see `BenchRow`, with what they were measured on.
    Raises:
        ModelFileError: A model cannot be opened.
        ConfigError: A model cannot have an output stride, or a precision is unknown.
    """
    candidates, dataset, refusal = [], None, None
    names = shorten_paths({str(Path(name)) for name in models})
    for name in models:
        opened, folder = _open(name, device, backends[0] if len(backends) == 1 else "auto", trust=trust)
        if data is not None and dataset is None:
            dataset = find_scored_data(data, folder, opened.label_space, data_root, on_message)
        own_precisions = ("auto",) if opened.is_exported else precisions
        for backend, output_stride, precision in itertools.product(backends, output_strides, own_precisions):
            options = {"output_stride": output_stride, "precision": precision, "backend": backend}
            try:
                predictor = opened.build_predictor(**options, on_message=on_message)
            except ConfigError as error:  # a backend that has not the precision, or does not run such files
                refusal = error
                send_message(on_message, f"left out: {error.message}")
            else:
                candidates.append((name, backend, predictor))
    if refusal is not None and not candidates:
        raise refusal
    rows = run_bench(candidates, sizes, rounds=rounds, dataset=dataset, progress=progress)
    found = {
        "rows": [{"name": names[str(Path(row.model))], **asdict(row)} for row in rows],
        "rounds": rounds,
        "device": str(candidates[0][2].backend.device),
        "threads": torch.get_num_threads(),
        "last_stage": name_last_stage(candidates[0][2].backend.device),
        **collect_provenance(),
    }
    if out is not None:
        save_json(out / "bench.json", found)
        save_bench_plot(found, out / "bench.png")
    return found


def export(
    model: Model | Run | str | Path,
    out: str | Path | None = None,
    *,
    format: str = "onnx",
    argmax: bool = False,
    int8: bool = False,
    calibrate: str | Path | None = None,
    output_stride: int | None = None,
    on_message: MessageCallback | None = None,
) -> tuple[Path, Parity]:
    """Write a model as a file that another runtime runs, after it has run there and answered as the model does.

    Args:
        model: A model, a run, or what `load` opens.
        out: The file; beside the model where left out, else in this folder.
        format: onnx, openvino or pt2.
        argmax: Whether the file gives class indices in place of logits; it then has no confidence.
        int8: Whether it computes in 8 bits, two to four times as fast where the CPU can, and a little less exact.
        calibrate: Images, a folder or a glob, that show the range of values for int8; a run's own training images
            where left out.
        output_stride: That of the file, which is fixed; the model's where left out.
        on_message: Receives messages about automatic choices and findings.
    Returns: The file, and how far its answers are from the model's.
    Raises:
        ModelFileError: The model cannot be opened or converted, or the file answers otherwise.
        ConfigError: The model cannot have the output stride, there is no such format, or it has no int8.
        UsageError: There are no images for int8, or there are and it is not asked for.
        MachineError: A package that the format needs is not installed.
    """
    if calibrate is not None and not int8:
        raise UsageError("calibrate is for int8", "Give both, or neither.")
    suffix = FORMATS.load(format).suffix
    opened, folder = _open(model, "cpu")
    if out is None:
        near = folder if folder is not None and folder.is_dir() else Path()
        name = "model" if isinstance(model, Model | Run) or Path(model).is_dir() else Path(model).stem
        out = near / f"{name}{'-int8' * int8}{suffix}"
    images = _find_calibration(calibrate, folder) if int8 else None
    parity = export_network(
        opened.network,
        opened.card,
        Path(out),
        output_stride=output_stride,
        format=format,
        argmax=argmax,
        calibration=images,
        on_message=on_message,
    )
    return Path(out), parity


def _find_calibration(source: str | Path | None, folder: Path | None) -> list[np.ndarray]:
    if source is not None:
        return read_images(source)
    if folder is None or not is_run(folder):
        raise UsageError("int8: no images to calibrate by", "Give a folder of them: --calibrate photos/.")
    return sample_images(rebuild_splits(folder).train)


def _open(
    model: Model | Run | str | Path, device: str, backend: str = "auto", *, trust: bool = False
) -> tuple[Model, Path | None]:
    """Return an opened model and the folder of its run, if it has one."""
    if isinstance(model, Model):
        return model, None
    folder = model.folder if isinstance(model, Run) else Path(model)
    return load(folder, device=device, backend=backend, trust=trust), folder if folder.is_dir() else folder.parent


def _prepare_scoring(
    model: Model | Run | str | Path,
    data: SegmentationDataset | str | Path | None,
    *,
    window: int | None,
    precision: str,
    opening: Mapping[str, Any],
    data_root: str | None,
    on_message: MessageCallback | None,
    **options: Any,
) -> tuple[Predictor, SegmentationDataset]:
    """Return what labels and what is labelled; window and precision left open are those of the model's validations."""
    opened, folder = _open(model, **opening)
    dataset = find_scored_data(data, folder, opened.label_space, data_root, on_message)
    validated = Protocol.from_json(opened.card.protocol) if opened.card.protocol else Protocol()
    is_free = precision == "auto" and not opened.is_exported
    if is_free and validated.precision in opened.find_engine(opening["backend"]).precisions:
        precision = validated.precision
    predictor = opened.build_predictor(
        window=window if opened.gives_labels_alone else window or validated.window,
        precision=precision,
        backend=opening["backend"],
        on_message=on_message,
        **options,
    )
    return predictor, dataset
