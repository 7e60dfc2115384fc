"""The public calls: build, load, train, evaluate, predict, export; each a few lines over the layers below."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from atrous.config.load import load_config
from atrous.config.options import update_options
from atrous.core.arguments import refuse_wrong_types
from atrous.core.data_source import PYTHON_SOURCE
from atrous.core.errors import ConfigError, UsageError, note_on_stop
from atrous.core.files import save_json
from atrous.core.inference_options import InferenceOptions
from atrous.core.output_folder import require_folder, require_place, require_replaceable
from atrous.core.records import MessageCallback, Note, ProgressCallback, Scores, send_message
from atrous.core.run_folder import RunFolder
from atrous.core.shipped import is_shipped, write_path
from atrous.data.build import read_splits
from atrous.data.contracts import SegmentationDataset, Splits
from atrous.display.progress import open_call
from atrous.exporting import FORMATS, HALF_MODEL, require_format
from atrous.exporting.calibration import read_images, sample_images
from atrous.exporting.export import export_network, require_export_place
from atrous.exporting.parity import Parity
from atrous.inference.exported import is_exported
from atrous.inference.folders.writer import PredictionRecord
from atrous.model import Model, load, name_network_classes, read_classes
from atrous.networks.build import build_network_from
from atrous.networks.model_card import is_model_file
from atrous.networks.model_file import require_as_built, save_model
from atrous.networks.model_source import read_terms
from atrous.networks.segmenter import Segmenter
from atrous.networks.weights import start_weights
from atrous.runs.evaluation import evaluate_together
from atrous.runs.folder import find_continued, find_recipe
from atrous.runs.half_model import SUFFIX_HALF, export_half_model, require_half_place
from atrous.runs.kept_images import rebuild_splits
from atrous.runs.plan import plan_training, preview_training
from atrous.runs.predicted import predict_files
from atrous.runs.probe import probe_training
from atrous.runs.scored_data import find_scored_data
from atrous.runs.scored_model import Loadable, ScoresCallback, name_models, open_model, prepare_scoring
from atrous.runs.stages import Run, run_training
from atrous.scoring import crf_search
from atrous.scoring.bench import bench as run_bench
from atrous.scoring.bench import describe_rows, is_bench_file, measure_figures, require_timeable
from atrous.scoring.crf_search import CrfTrial

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
    "probe_training",
    "rebuild_splits",
    "run_training",
    "save",
    "train",
]


@refuse_wrong_types
def build(
    name: str = "deeplabv3-lite0",
    *,
    classes: int | Sequence[str] | Mapping[int, str],
    weights: Run | str | Path = "none",
    output_stride: int = 16,
    **options: Any,
) -> Segmenter:
    """Build a network: (B, 3, H, W) uint8 or [0, 1] floats -> logits (B, classes, H, W).

    Args:
        name: `<family>-<backbone>`, see `atrous models`.
        classes: Number of scored classes, or their names, in the order of the logits, or their names by the ids that
            they have in files, in ascending order. With names, `save`, `predict`, `evaluate`, `export` and `bench` take
            the network as it is.
        weights: none, imagenet, a run, a file, "animals", or a published model such as torchvision/deeplabv3_resnet50.
        output_stride: Input resolution / feature resolution, settable later on the network.
        options: Other fields of the model's settings, such as `multi_grid=(1, 2, 4)` or `head={"rates": [6, 12]}`.
    Raises:
        ConfigError: An unknown name or option, or a stride that the network cannot have.
        UsageError: An argument has another type, or the classes are not distinct.
        ModelFileError: The weights cannot be read, or do not fit.
    """
    source = _name_weights(weights)
    model = {"name": name, "weights": source, "output_stride": output_stride, **options}
    space = None if isinstance(classes, int) else name_network_classes(classes)
    network = build_network_from(model, classes if isinstance(classes, int) else len(classes))
    network.label_space = space
    start_weights(network, name, source, () if space is None else space.names)
    network.data_terms = read_terms(source) or ()
    return network


def _name_weights(weights: Any) -> Any:
    """Return the path of a run or a file as text, and any other value as it is, to be checked as a setting."""
    if isinstance(weights, Run):
        return write_path(weights.folder)
    return write_path(weights) if isinstance(weights, Path) else weights


@refuse_wrong_types
def save(
    model: Loadable,
    file: str | Path,
    *,
    classes: Sequence[str] | Mapping[int, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model as one .safetensors file with all that `load`, and every command, needs to label images.

    Args:
        model: A network of `build`, with its weights, normalisation and output stride as they are now; or a model or a
            run, to name its classes.
        file: The file, whose name ends in .safetensors.
        classes: Class names in the order of the logits, or by the ids that they have in files, in ascending order.
            Default: those of the model.
        overwrite: Whether to replace a file of this name.
    Returns: The file.
    Raises:
        UsageError: The classes are not known or not as many as the network has, a file cannot describe the network, or
            there is a file of this name.
        ModelFileError: The model cannot be opened.
        MachineError: The file cannot be written.
    """
    path = Path(file)
    if path.suffix != ".safetensors":
        raise UsageError(f"{path}: a model file ends in .safetensors", "Name it so, such as model.safetensors.")
    # The model of a run is what its metrics describe.
    is_own = not RunFolder(path.parent).is_run and is_model_file(path)
    require_place(path)
    require_replaceable([path], is_own=is_own, overwrite=overwrite)
    if isinstance(model, Segmenter):
        opened = Model(model, classes=classes)
    else:
        opened = open_model(model, {} if isinstance(model, Model) else {"device": "cpu"})
    network, space = opened.network, opened.label_space
    require_as_built(network)
    if isinstance(classes, Mapping):
        space = replace(read_classes(network, classes), colours=space.colours)
    elif classes is not None:
        space = replace(space, names=read_classes(network, classes).names)
    save_model(path, network, replace(opened.card, label_space=space, output_stride=network.output_stride))
    return path


@refuse_wrong_types
def train(
    data: str | Path | Splits | tuple[SegmentationDataset, SegmentationDataset] | None = None,
    *,
    model: str | None = None,
    recipe: str | Path | None = None,
    out: str | Path | None = None,
    resume: str | Path | None = None,
    extend: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    progress: ProgressCallback | bool | None = None,
    on_message: MessageCallback | None = None,
    **options: Any,
) -> Run:
    """Train a network, or continue an interrupted training.

    Args:
        data: A registered name, `name=PATH`, a folder, or a pair of Python data sets: to train on, and to score on. Of
            a run to continue only Python data sets have to be given again.
        model: `<family>-<backbone>`, see `atrous models`.
        recipe: A YAML file or a shipped recipe.
        out: The run's folder. Default: runs/<data>-<model>-<number>.
        resume: The folder of a run to continue from its last checkpoint; the run keeps its settings.
        extend: The folder of a run to train for longer than planned; give its new length as a whole: epochs=100.
        set: Any setting by its dotted key, such as {"training.norm": "frozen"}.
        progress: Receives the progress. Default: a bar on a terminal or in a notebook, a line now and then elsewhere;
            False shows nothing.
        on_message: Receives messages about automatic choices and findings. Default: they are shown with the progress.
        options: Fields by their own name: epochs, iterations, max_minutes, batch, crop, lr, seed, weights, workers...
    Raises:
        ConfigError: A setting that is unknown or impossible.
        DataError: Data that cannot be trained on.
        ModelFileError: The run to continue has no checkpoint, or its checkpoint is damaged.
        UsageError: The folder holds a run already, another process writes there, the objects are no data sets, or the
            run to continue began with other settings.
    """
    recipe = find_recipe(find_continued(resume, extend), recipe, out)
    if data is None and recipe is None:
        raise UsageError("no data given", "Give a name, a folder, or a pair of data sets (train, val).")
    splits = None if data is None or isinstance(data, str | Path) else read_splits(data)
    source = PYTHON_SOURCE if splits else None if data is None else str(data)
    given = {"data": source, "model": model, "out": None if out is None else str(out)}
    settings = {key: _name_weights(value) for key, value in {**options, **(set or {})}.items()}
    loaded = load_config(
        recipe=recipe, options={**given, **settings}, keywords=list(inspect.signature(train).parameters)
    )
    with open_call(progress, on_message) as shown:
        return run_training(
            loaded, splits=splits, resume=resume, extend=extend, progress=shown.progress, on_message=shown.on_message
        )


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
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: ProgressCallback | bool | None = None,
    on_message: MessageCallback | None = None,
    on_scores: ScoresCallback | None = None,
) -> Scores:
    """Score a model on images with masks, each at its own size.

    What is not given is as in the validations of the model's training, see the `evaluation` section of its config.yaml.

    Args:
        model: A loaded model, a run, a network built with named classes, or what `load` opens.
        data: What to score on, all its pairs. Default: the validation data of the model's run, and where these have a
            labelled test split that as well; its scores are `test` of the result.
        output_stride: Input resolution / feature resolution: 4, 8, 16 or 32.
        scales: Scales whose probabilities are averaged, each > 0.
        flip: Whether the mirrored image is averaged in.
        window: Side of a sliding window in pixels, at least 33; "none" for whole images.
        precision: auto, fp32 or bf16.
        crf: Whether DenseCRF refines the labels, or its options; the score without it is given too.
        device: auto, cpu, cuda, cuda:1 or mps.
        backend: torch, compile, openvino or onnxruntime; auto is torch, or an exported file's own.
        trust: Whether to open a .pt2, which can run any code that it holds.
        data_root: Folder in which registered data sets are looked for, and the data of the model's run if they have
            moved.
        out: Folder for scores.json, images.csv with a row an image, plots, and in worst/ the images with the lowest
            mIoU: image, truth, prediction. Default: nothing is written.
        overwrite: Whether to replace files of these names that atrous did not write.
        progress: Receives the progress. Default: a bar on a terminal or in a notebook, a line now and then elsewhere;
            False shows nothing.
        on_message: Receives messages about automatic choices. Default: they are shown with the progress.
        on_scores: Receives the name of the model and its scores as soon as they are known, before files are written.
    Raises:
        UsageError: No data is given and the model's run is not known; device, precision, backend or trust are given
            for a loaded model; or a file in `out` would be lost.
        ConfigError: An option is out of its range, or the model cannot follow it.
        ModelFileError: The model cannot be opened.
        DataError: The data's classes are not the model's, or a file cannot be read.
    """
    from atrous.training.world import World

    options: dict[str, Any] = {"output_stride": output_stride, "scales": scales, "flip": flip, "window": window}
    options |= {"crf": crf, "precision": precision, "device": device, "backend": backend, "trust": trust}
    places: dict[str, Any] = {"out": out, "overwrite": overwrite, "data_root": data_root}
    with open_call(progress, on_message) as display:
        shown: dict[str, Any] = {"progress": display.progress, "on_message": display.on_message}
        return evaluate_together(World.alone(), model, data, **places, **shown, on_scores=on_scores, **options)


@refuse_wrong_types
def search_crf(
    model: Loadable,
    data: SegmentationDataset | str | Path | None = None,
    *,
    data_root: str | Path | None = None,
    progress: ProgressCallback | bool | None = None,
    on_message: MessageCallback | None = None,
    **options: Any,
) -> tuple[CrfTrial, ...]:
    """Score a few settings of DenseCRF on some of the images.

    Args:
        model: A loaded model, a run, a network built with named classes, or what `load` opens.
        data: What to score on. Default: the validation data of the model's run.
        data_root: Folder in which registered data sets are looked for.
        progress: Receives the progress. Default: a bar on a terminal or in a notebook, a line now and then elsewhere;
            False shows nothing.
        on_message: Receives messages about automatic choices. Default: they are shown with the progress.
        options: The other keywords of `evaluate`, except crf.
    Returns: The settings with their scores, best first.
    Raises:
        UsageError: See `evaluate`; or the model is an exported file without logits.
        ConfigError: See `evaluate`.
        ModelFileError: The model cannot be opened.
        DataError: The data's classes are not the model's, or a file cannot be read.
    """
    with open_call(progress, on_message) as display:
        labeller, dataset, _ = prepare_scoring(model, data, data_root, display.on_message, **options, crf=False)
        return crf_search.search_crf(labeller, dataset, progress=display.progress)


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
    submission: str | None = None,
    probabilities: bool = False,
    min_confidence: float | None = None,
    overwrite: bool = False,
    progress: ProgressCallback | bool | None = None,
    on_message: MessageCallback | None = None,
) -> PredictionRecord:
    """Label files, folders and globs into a folder.

    Called again after an interruption, it continues where it stopped: images that have labels from the same model and
    settings are not labelled again.

    Args:
        inputs: Images, folders (sub-folders are mirrored) and globs.
        model: A loaded model, a run, a network built with named classes, or what `load` opens.
        out: Folder of the results.
        output_stride: Input resolution / feature resolution: 4, 8, 16 or 32. Default: the model's.
        scales: Scales whose probabilities are averaged, each > 0. Default: (1.0,).
        flip: Whether the mirrored image is averaged in.
        window: Side of a sliding window in pixels, at least 33. Default: whole images, unless one does not fit in
            memory.
        precision: auto, fp32 or bf16; auto is bf16 where it is faster and cost no accuracy in validation, else fp32.
        crf: Whether DenseCRF refines the labels, or its options.
        device: auto, cpu, cuda, cuda:1 or mps.
        backend: torch, compile, openvino or onnxruntime; auto is the fastest for these images, or an exported file's.
        trust: Whether to open a .pt2, which can run any code that it holds.
        formats: Any of ids (grey) or labels (with a palette), one of which is always written as `<name>.png`; overlay,
            confidence, areas (what each class covers), labelme, coco, cvat, geojson. Default: ids and overlay;
            TIFFs of more than 64 megapixels, never whole in memory, get ids alone.
        submission: voc or cityscapes: also write what their servers take, below results/.
        probabilities: Whether to write the probabilities of every class.
        min_confidence: Pixels below it, in [0, 1], get the id of void.
        overwrite: Whether to label all again, and to replace files that atrous did not write or that were changed.
        progress: Receives the progress. Default: a bar on a terminal or in a notebook, a line now and then elsewhere;
            False shows nothing.
        on_message: Receives messages about automatic choices. Default: they are shown with the progress.
    Returns: What was done; predictions.json in the folder says the same.
    Raises:
        UsageError: An input does not exist, two have one output name, `out` is inside an input folder, files there
            would be lost, there is no such format, or `min_confidence` is not in [0, 1]; or device, precision, backend
            or trust are given for a loaded model.
        ConfigError: An option is out of its range, or the model cannot follow it.
        ModelFileError: The model cannot be opened.
    """
    given = {"output_stride": output_stride, "scales": scales, "flip": flip, "window": window, "crf": crf}
    opening = {"precision": precision, "device": device, "backend": backend, "trust": trust}
    with open_call(progress, on_message) as display:
        return predict_files(
            inputs,
            model,
            Path(out),
            given=given,
            opening=opening,
            formats=formats,
            submission=submission,
            probabilities=probabilities,
            min_confidence=min_confidence or 0.0,
            overwrite=overwrite,
            progress=display.progress,
            on_message=display.on_message,
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
    out: str | Path | None = None,
    device: str = "auto",
    data_root: str | Path | None = None,
    trust: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback | bool | None = None,
    on_message: MessageCallback | None = None,
    on_result: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Time models side by side under every combination of backend, output stride and precision.

    Args:
        models: Loaded models, runs, or what `load` opens.
        sizes: Heights and widths of the images, in pixels, each from 1 to 100,000.
        output_strides: Input resolution / feature resolution; None for the model's.
        precisions: fp32, bf16; an exported file keeps its own.
        backends: torch, compile, openvino, onnxruntime; auto is torch, or an exported file's own.
        data: What to score each on, too.
        rounds: Timed turns of each, from 1 to 100,000; two more warm up before.
        out: Folder for bench.json and bench.png, if any.
        device: auto, cpu, cuda, cuda:1 or mps.
        data_root: Folder in which registered data sets are looked for.
        trust: Whether to open a .pt2, which can run any code that it holds.
        overwrite: Whether to replace files of these names that atrous did not write.
        progress: Receives the progress. Default: a bar on a terminal or in a notebook, a line now and then elsewhere;
            False shows nothing.
        on_message: Receives messages about automatic choices. Default: they are shown with the progress.
        on_result: Receives what is returned before files are written.
    Returns: The rows, see `BenchRow`, with the machine and the versions, and whether Ctrl-C came before the last size.
    Raises:
        UsageError: Nothing is to be timed, device or trust are given for a loaded model, or files in `out` would be
            lost.
        ModelFileError: A model cannot be opened.
        ConfigError: A model cannot have an output stride, or there is no such precision.
    """
    require_timeable(len(models), sizes, rounds)
    files = [] if out is None else [Path(out) / "bench.json", Path(out) / "bench.png"]
    if out is not None:
        require_folder(Path(out))
        require_replaceable(files, is_own=is_bench_file(files[0]), overwrite=overwrite)
    with open_call(progress, on_message) as display:
        candidates, dataset, refusal = [], None, None
        for name, model in zip(name_models(models), models, strict=True):
            backend = backends[0] if len(backends) == 1 else None
            opened = open_model(model, {"device": device, "trust": trust, "backend": backend}, display.on_message)
            if data is not None and dataset is None:
                known = opened.run, opened.label_space, data_root, display.on_message, opened.card.form
                dataset = find_scored_data(data, *known)
            own_precisions = ("auto",) if opened.is_exported else precisions
            by_backend = {backend: opened.reopen(backend=backend) for backend in backends}
            for backend, output_stride, precision in itertools.product(backends, output_strides, own_precisions):
                options = update_options(InferenceOptions(), {"output_stride": output_stride})
                try:
                    if len(backends) > 1 and backend == backends[0]:  # before anything is converted
                        free = opened.reopen(backend="auto", precision=precision)
                        measure_figures(partial(free.build_labeller, options, keep_backend=False), sizes, backends)
                    candidate = by_backend[backend].reopen(precision=precision)
                    labeller = candidate.build_labeller(options, on_message=display.on_message)
                except ConfigError as error:  # a backend that has not the precision, or does not run such files
                    refusal = error
                    send_message(display.on_message, Note("skipped", f"skipped: {error.message}"))
                else:
                    candidates.append((name, backend, labeller))
        if refusal is not None and not candidates:
            raise refusal
        rows = run_bench(candidates, sizes, rounds=rounds, dataset=dataset, progress=display.progress)
    found = describe_rows(rows, rounds, candidates[0][2].backend.device, len(candidates) * len(sizes))
    if on_result is not None:
        on_result(found)
    if files:
        save_json(files[0], found)
        from atrous.reports.plots import save_bench_plot  # matplotlib takes a second

        save_bench_plot(found, files[1])
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
    atrous: str = "native",
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    on_message: MessageCallback | None = None,
) -> tuple[Path, Parity]:
    """Write a model as a file for another runtime, and check there that it gives what the model gives.

    The format safetensors is no graph but a model file as that of a run, of half the size: weights of two dimensions
    and more are rounded to float16, and every call that takes a model opens it and computes in fp32. Its score is
    measured again with the rounded weights, on the validation data of the model's run; without these it has none, which
    a message says.

    Args:
        model: A loaded model, a run, a network built with named classes, or what `load` opens.
        out: The file. Default: beside the model's file, else in the current folder.
        format: onnx, openvino, pt2, or safetensors, which has none of the following options up to `atrous`.
        argmax: Whether the file gives class indices instead of logits; it then has no confidence.
        int8: Whether it computes in 8 bits, two to four times as fast where the CPU can, and a little less accurate.
        calibrate: Images, a folder or a glob, that show the range of values for int8. Default: the training images of
            the model's run.
        output_stride: Of the file, which is fixed. Default: the model's.
        atrous: Form of atrous convolutions: native, taps (sums of 1x1 convolutions), or auto: the faster one here.
        overwrite: Whether to replace a file that `export` did not write.
        progress: Receives the progress of scoring a model file.
        on_message: Receives messages about automatic choices.
    Returns: The file, and how far its results are from the model's.
    Raises:
        ModelFileError: The model cannot be opened or converted, a weight is beyond float16 for a model file, or the
            file's results differ.
        ConfigError: The model cannot have the output stride, there is no such format, or it has no int8.
        UsageError: There are no images for int8, or there are and it is not asked for; an option of graphs is given
            for a model file; the model is an exported file; or a file would be lost.
        MachineError: A package that the format needs is not installed.
    """
    require_format(format)
    if calibrate is not None and not int8:
        raise UsageError("calibrate is for int8", "Give both, or neither.")
    if isinstance(model, str | Path) and is_exported(Path(model)):
        raise UsageError(f"{model} is an exported file, not a network", "Give the model it came from.")
    is_half = format == HALF_MODEL
    if is_half:
        _refuse_graph_options(argmax=argmax, int8=int8, output_stride=output_stride, atrous=atrous)
    require = require_half_place if is_half else partial(require_export_place, format=format)
    if out is not None:  # before the model is opened
        require(Path(out), overwrite=overwrite)
    opened = open_model(model, {} if isinstance(model, Model) else {"device": "cpu"}, on_message)
    suffix = SUFFIX_HALF if is_half else f"{'-int8' * int8}{FORMATS.load(format).suffix}"
    path = _choose_export_folder(model, opened) / f"{_name_export(model)}{suffix}" if out is None else Path(out)
    if out is None:
        require(path, overwrite=overwrite)
    images = _find_calibration(calibrate, opened) if int8 else None
    with note_on_stop(lambda error: f"{path} was not written." * isinstance(error, KeyboardInterrupt)):
        if is_half:
            return path, export_half_model(opened, path, on_message=on_message, progress=progress)
        parity = export_network(
            opened.network,
            opened.card,
            path,
            output_stride=output_stride,
            format=format,
            argmax=argmax,
            calibration=images,
            atrous=atrous,
            on_message=on_message,
        )
    return path, parity


def _refuse_graph_options(*, argmax: bool, int8: bool, output_stride: int | None, atrous: str) -> None:
    """Refuse options that a model file does not have."""
    given = {"argmax": argmax, "int8": int8, "output_stride": output_stride is not None, "atrous": atrous != "native"}
    if names := [name for name, is_given in given.items() if is_given]:
        raise UsageError(
            f"{', '.join(names)}: of exported graphs, and {HALF_MODEL} is a model file",
            "Leave them out: a model file keeps the whole network, and whatever opens it chooses how to run it.",
        )


def _name_export(model: Loadable) -> str:
    """Return the stem of an exported file's name: that of the model's file, "model" for a run or a loaded model."""
    if isinstance(model, Model | Run | Segmenter):
        return "model"
    return Path(model).stem if is_shipped(model) or not Path(model).is_dir() else "model"


def _choose_export_folder(model: Loadable, opened: Model) -> Path:
    if opened.run is not None:
        return opened.run.path
    place = Path(model) if isinstance(model, str | Path) and not is_shipped(model) else Path()
    return place if place.is_dir() else place.parent if place.is_file() else Path()


def _find_calibration(source: str | Path | None, model: Model) -> list[np.ndarray]:
    if source is not None:
        return read_images(source, model.card.form)
    if model.run is None:
        raise UsageError("int8: no images to calibrate by", "Give a folder of them: `calibrate=photos/`.")
    hint = "Give a folder of images: `calibrate=photos/`."
    return sample_images(rebuild_splits(model.run.path, needed=(), hint=hint).train, model.card.form)
