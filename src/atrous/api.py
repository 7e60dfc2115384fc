"""The public calls: build, load, train, evaluate, predict, export; each a few lines over the layers below."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from atrous.config.load import load_config
from atrous.config.options import update_options
from atrous.core.arguments import refuse_wrong_types
from atrous.core.data_source import PYTHON_SOURCE
from atrous.core.errors import ConfigError, UsageError, note_on_stop
from atrous.core.files import save_json, shorten_paths
from atrous.core.inference_options import InferenceOptions, Opening
from atrous.core.provenance import collect_provenance
from atrous.core.records import MessageCallback, Note, NoteCollector, ProgressCallback, Scores, send_message
from atrous.core.run_folder import RunFolder
from atrous.data.build import read_splits
from atrous.data.contracts import SegmentationDataset, Splits
from atrous.exporting import FORMATS
from atrous.exporting.calibration import read_images, sample_images
from atrous.exporting.export import export_network
from atrous.exporting.parity import Parity
from atrous.inference.exported import is_exported
from atrous.inference.folders.writer import PredictionRecord, save_predictions
from atrous.inference.labelling.labeller import Labeller
from atrous.inference.labelling.likeliest import name_last_stage
from atrous.model import Model, load, load_opened
from atrous.networks.build import build_network_from
from atrous.networks.segmenter import Segmenter
from atrous.networks.weights import start_weights
from atrous.reports.plots import save_bench_plot
from atrous.runs.scored_data import find_scored_data, rebuild_splits
from atrous.runs.stages import (
    Run,
    plan_training,
    preview_training,
    run_training,
)
from atrous.scoring import crf_search
from atrous.scoring.bench import bench as run_bench
from atrous.scoring.crf_search import CrfTrial
from atrous.scoring.summarise import score

__all__ = [
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

Loadable = Model | Run | str | Path
"""A loaded model, a run, or what `load` opens."""


@refuse_wrong_types
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


@refuse_wrong_types
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
        out: The run's folder. Default: runs/<data>-<model>-<number>.
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


@refuse_wrong_types
def evaluate(
    model: Loadable,
    data: SegmentationDataset | str | Path | None = None,
    *,
    output_stride: int | None = None,
    scales: Sequence[float] | None = None,
    flip: bool | None = None,
    window: int | Literal["none"] | None = None,
    precision: str = "auto",
    crf: bool | Mapping[str, Any] | None = None,
    device: str = "auto",
    backend: str = "auto",
    trust: bool = False,
    data_root: str | Path | None = None,
    progress: ProgressCallback | None = None,
    on_message: MessageCallback | None = None,
) -> Scores:
    """Score a model on images with masks, each at its own size.

    What is not given is as in the validations of the model's training, see the `evaluation` section of its config.yaml.

    Args:
        model: A loaded model, a run, or what `load` opens.
        data: What to score on, all its pairs. Default: the validation data of the model's run.
        output_stride: Input resolution / feature resolution: 4, 8, 16 or 32.
        scales: Scales whose probabilities are averaged, each > 0.
        flip: Whether the mirrored image is averaged in.
        window: Side of a sliding window in pixels, at least 33; "none" for whole images.
        precision: auto, fp32 or bf16.
        crf: Whether DenseCRF refines the labels, or its options; the score without it is given too.
        device: auto, cpu, cuda, cuda:1 or mps.
        backend: torch, compile, openvino or onnxruntime; auto is torch, or an exported file's own.
        trust: Whether to open a .pt2, which can run any code that it holds.
        data_root: Folder in which registered data sets are looked for.
        progress: Receives the progress.
        on_message: Receives messages about automatic choices.
    Raises:
        UsageError: No data is given and the model's run is not known; or device, precision, backend or trust are given
            for a loaded model.
        ConfigError: An option is out of its range, or the model cannot follow it.
        ModelFileError: The model cannot be opened.
        DataError: The data's classes are not the model's, or a file cannot be read.
    """
    collector = NoteCollector(on_message)
    labeller, dataset = _prepare_scoring(
        model,
        data,
        data_root,
        collector,
        output_stride=output_stride,
        scales=scales,
        flip=flip,
        window=window,
        crf=crf,
        precision=precision,
        device=device,
        backend=backend,
        trust=trust,
    )
    scores = score(labeller, dataset, progress=progress)
    return replace(scores, notes=tuple(dict.fromkeys((*collector.notes, *scores.notes))))


def search_crf(
    model: Loadable,
    data: SegmentationDataset | str | Path | None = None,
    *,
    data_root: str | Path | None = None,
    progress: ProgressCallback | None = None,
    on_message: MessageCallback | None = None,
    **options: Any,
) -> tuple[CrfTrial, ...]:
    """Score a few settings of DenseCRF on some of the images.

    Args:
        model: A loaded model, a run, or what `load` opens.
        data: What to score on. Default: the validation data of the model's run.
        data_root: Folder in which registered data sets are looked for.
        progress: Receives the progress.
        on_message: Receives messages about automatic choices.
        options: The other keywords of `evaluate`, except crf.
    Returns: The settings with their scores, best first.
    Raises:
        UsageError: See `evaluate`; or the model is an exported file without logits.
        ConfigError: See `evaluate`.
        ModelFileError: The model cannot be opened.
        DataError: The data's classes are not the model's, or a file cannot be read.
    """
    labeller, dataset = _prepare_scoring(model, data, data_root, on_message, **options, crf=False)
    return crf_search.search_crf(labeller, dataset, progress=progress)


@refuse_wrong_types
def predict(
    inputs: str | Path | Sequence[str | Path],
    model: Loadable,
    out: str | Path,
    *,
    output_stride: int | None = None,
    scales: Sequence[float] | None = None,
    flip: bool | None = None,
    window: int | Literal["none"] | None = None,
    precision: str = "auto",
    crf: bool | Mapping[str, Any] | None = None,
    device: str = "auto",
    backend: str = "auto",
    trust: bool = False,
    formats: Sequence[str] | None = None,
    probabilities: bool = False,
    min_confidence: float | None = None,
    progress: ProgressCallback | None = None,
    on_message: MessageCallback | None = None,
) -> PredictionRecord:
    """Label files, folders and globs into a folder.

    Args:
        inputs: Images, folders (sub-folders are mirrored) and globs.
        model: A loaded model, a run, or what `load` opens.
        out: Folder of the results.
        output_stride: Input resolution / feature resolution: 4, 8, 16 or 32. Default: the model's.
        scales: Scales whose probabilities are averaged, each > 0. Default: (1.0,).
        flip: Whether the mirrored image is averaged in.
        window: Side of a sliding window in pixels, at least 33. Default: whole images, unless one does not fit in
            memory.
        precision: auto, fp32 or bf16; auto is bf16 where it is faster and cost no accuracy in validation, else fp32.
        crf: Whether DenseCRF refines the labels, or its options.
        device: auto, cpu, cuda, cuda:1 or mps.
        backend: torch, compile, openvino or onnxruntime; auto is torch, or an exported file's own.
        trust: Whether to open a .pt2, which can run any code that it holds.
        formats: Any of labels, overlay and confidence; labels are always written. Default: labels and overlay; TIFFs of
            more than 64 megapixels, which are never whole in memory, get labels alone.
        probabilities: Whether to write the probabilities of every class.
        min_confidence: Pixels below it, in [0, 1], get the id of void.
        progress: Receives the progress.
        on_message: Receives messages about automatic choices.
    Raises:
        UsageError: An input does not exist, two have one output name, `out` is inside an input folder, there is no
            such format, or `min_confidence` is not in [0, 1]; or device, precision, backend or trust are given for a
            loaded model.
        ConfigError: An option is out of its range, or the model cannot follow it.
        ModelFileError: The model cannot be opened.
    """
    given = {"output_stride": output_stride, "scales": scales, "flip": flip, "window": window, "crf": crf}
    opening = {"precision": precision, "device": device, "backend": backend, "trust": trust}
    options = update_options(InferenceOptions(), given)
    labeller = _open(model, opening).build_labeller(options, on_message=on_message)
    return save_predictions(
        labeller,
        [inputs] if isinstance(inputs, str | Path) else inputs,
        Path(out),
        formats=formats,
        probabilities=probabilities,
        min_confidence=min_confidence or 0.0,
        progress=progress,
    )


@refuse_wrong_types
def bench(
    models: Sequence[Loadable],
    sizes: Sequence[tuple[int, int]],
    *,
    output_strides: Sequence[int | None] = (None,),
    precisions: Sequence[str] = ("fp32",),
    backends: Sequence[str] = ("auto",),
    data: str | Path | None = None,
    rounds: int = 10,
    out: Path | None = None,
    device: str = "auto",
    data_root: str | Path | None = None,
    trust: bool = False,
    progress: ProgressCallback | None = None,
    on_message: MessageCallback | None = None,
) -> dict[str, Any]:
    """Time models side by side under every combination of backend, output stride and precision.

    Args:
        models: Loaded models, runs, or what `load` opens.
        sizes: Heights and widths of the images, in pixels.
        output_strides: Input resolution / feature resolution; None for the model's.
        precisions: fp32, bf16; an exported file keeps its own.
        backends: torch, compile, openvino, onnxruntime; auto is torch, or an exported file's own.
        data: What to score each on, too.
        rounds: Timed turns of each, >= 1; two more warm up before.
        out: Folder for bench.json and bench.png, if any.
        device: auto, cpu, cuda, cuda:1 or mps.
        data_root: Folder in which registered data sets are looked for.
        trust: Whether to open a .pt2, which can run any code that it holds.
        progress: Receives the progress.
        on_message: Receives messages about automatic choices.
    Returns: The rows, see `BenchRow`, with the machine and the versions, and whether Ctrl-C came before the last size.
    Raises:
        UsageError: Device or trust are given for a loaded model.
        ModelFileError: A model cannot be opened.
        ConfigError: A model cannot have an output stride, or there is no such precision.
    """
    candidates, dataset, refusal = [], None, None
    for name, model in zip(_name_models(models), models, strict=True):
        opened = _open(
            model, {"device": device, "trust": trust, "backend": backends[0] if len(backends) == 1 else None}
        )
        if data is not None and dataset is None:
            dataset = find_scored_data(data, opened.run, opened.label_space, data_root, on_message)
        own_precisions = ("auto",) if opened.is_exported else precisions
        by_backend = {backend: opened.reopen(backend=backend) for backend in backends}  # each converts the network once
        for backend, output_stride, precision in itertools.product(backends, output_strides, own_precisions):
            options = update_options(InferenceOptions(), {"output_stride": output_stride})
            try:
                candidate = by_backend[backend].reopen(precision=precision)
                labeller = candidate.build_labeller(options, on_message=on_message)
            except ConfigError as error:  # a backend that has not the precision, or does not run such files
                refusal = error
                send_message(on_message, Note("skipped", f"skipped: {error.message}"))
            else:
                candidates.append((name, backend, labeller))
    if refusal is not None and not candidates:
        raise refusal
    rows = run_bench(candidates, sizes, rounds=rounds, dataset=dataset, progress=progress)
    found = {
        "rows": [{"name": row.model, **asdict(row)} for row in rows],
        "rounds": rounds,
        "device": str(candidates[0][2].backend.device),
        "threads": torch.get_num_threads(),
        "last_stage": name_last_stage(candidates[0][2].backend.device),
        "interrupted": len(rows) < len(candidates) * len(sizes),
        **collect_provenance(),
    }
    if out is not None:
        save_json(out / "bench.json", found)
        save_bench_plot(found, out / "bench.png")
    return found


@refuse_wrong_types
def export(
    model: Loadable,
    out: str | Path | None = None,
    *,
    format: str = "onnx",
    argmax: bool = False,
    int8: bool = False,
    calibrate: str | Path | None = None,
    output_stride: int | None = None,
    on_message: MessageCallback | None = None,
) -> tuple[Path, Parity]:
    """Write a model as a file for another runtime, and check there that it gives what the model gives.

    Args:
        model: A loaded model, a run, or what `load` opens.
        out: The file. Default: beside the model's file, else in the current folder.
        format: onnx, openvino or pt2.
        argmax: Whether the file gives class indices instead of logits; it then has no confidence.
        int8: Whether it computes in 8 bits, two to four times as fast where the CPU can, and a little less accurate.
        calibrate: Images, a folder or a glob, that show the range of values for int8. Default: the training images of
            the model's run.
        output_stride: Of the file, which is fixed. Default: the model's.
        on_message: Receives messages about automatic choices.
    Returns: The file, and how far its results are from the model's.
    Raises:
        ModelFileError: The model cannot be opened or converted, or the file's results differ.
        ConfigError: The model cannot have the output stride, there is no such format, or it has no int8.
        UsageError: There are no images for int8, or there are and it is not asked for; or the model is an exported
            file.
        MachineError: A package that the format needs is not installed.
    """
    if calibrate is not None and not int8:
        raise UsageError("calibrate is for int8", "Give both, or neither.")
    if isinstance(model, str | Path) and is_exported(Path(model)):
        raise UsageError(f"{model} is an exported file, not a network", "Give the model it came from.")
    suffix = FORMATS.load(format).suffix
    opened = _open(model, {} if isinstance(model, Model) else {"device": "cpu"})
    target = _choose_export_folder(model, opened) / f"{_name_export(model)}{'-int8' * int8}{suffix}"
    path = target if out is None else Path(out)
    images = _find_calibration(calibrate, opened.run) if int8 else None
    with note_on_stop(lambda error: f"{path} was not written." * isinstance(error, KeyboardInterrupt)):
        parity = export_network(
            opened.network,
            opened.card,
            path,
            output_stride=output_stride,
            format=format,
            argmax=argmax,
            calibration=images,
            on_message=on_message,
        )
    return path, parity


def _name_export(model: Loadable) -> str:
    """Return the stem of an exported file's name: that of the model's file, "model" for a run or a loaded model."""
    return "model" if isinstance(model, Model | Run) or Path(model).is_dir() else Path(model).stem


def _choose_export_folder(model: Loadable, opened: Model) -> Path:
    if opened.run is not None:
        return opened.run.path
    place = Path(model) if isinstance(model, str | Path) else Path()
    if place.is_dir():
        return place
    return place.parent if place.is_file() else Path()


def _find_calibration(source: str | Path | None, run: RunFolder | None) -> list[np.ndarray]:
    if source is not None:
        return read_images(source)
    if run is None:
        raise UsageError("int8: no images to calibrate by", "Give a folder of them: --calibrate photos/.")
    return sample_images(rebuild_splits(run.path).train)


def _name_models(models: Sequence[Loadable]) -> list[str]:
    """Return a short name for each model: its path, or for a loaded model its run's, without what all share."""
    paths = [_find_path(model) or f"model {number}" for number, model in enumerate(models, start=1)]
    names = shorten_paths(set(paths))
    return [names[path] for path in paths]


def _find_path(model: Loadable) -> str:
    if isinstance(model, Model):
        return "" if model.run is None else str(model.run.path)
    return str(model.folder if isinstance(model, Run) else Path(model))


def _open(model: Loadable, opening: Mapping[str, Any]) -> Model:
    """Return a loaded model as it is, or load one.

    Raises:
        UsageError: An option of the opening is given for a model that is loaded already.
    """
    wanted = update_options(Opening(), opening)
    if not isinstance(model, Model):
        return load_opened(model.folder if isinstance(model, Run) else model, wanted)
    if given := wanted.list_changes():
        example = ", ".join(f"{name}={getattr(wanted, name)!r}" for name in given)
        raise UsageError(
            f"{', '.join(given)}: the model is loaded already, which settles this", f"atrous.load(path, {example})"
        )
    return model


def _prepare_scoring(
    model: Loadable,
    data: SegmentationDataset | str | Path | None,
    data_root: str | Path | None,
    on_message: MessageCallback | None,
    **options: Any,
) -> tuple[Labeller, SegmentationDataset]:
    """Return what labels and what is labelled; options that are not given are those of the model's validations."""
    opening = {name: options.pop(name) for name in list(options) if name in vars(Opening())}
    update_options(InferenceOptions(), options)  # refused before anything is loaded
    opened = _open(model, opening).as_validated()
    chosen = update_options(opened.validation_options, options)
    dataset = find_scored_data(data, opened.run, opened.label_space, data_root, on_message)
    return opened.build_labeller(chosen, on_message=on_message), dataset
