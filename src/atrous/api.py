"""The public calls: build, load, train, evaluate, predict; a few lines each over the rooms below."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from atrous.config.check import require_valid
from atrous.config.load import LoadedConfig, dump_config, load_config
from atrous.config.problems import describe_validation_error, raise_problems
from atrous.config.schema import Config
from atrous.core.errors import AtrousError, UsageError
from atrous.core.files import save_text
from atrous.core.labels import LabelSpace
from atrous.core.records import Progress, Protocol, Scores
from atrous.data.build import (
    PYTHON_SOURCE,
    build_all_pairs,
    build_splits,
    build_stream,
    check_training_data,
    read_splits,
)
from atrous.data.contracts import SegmentationDataset, Splits
from atrous.data.preview import save_preview
from atrous.inference.build import build_predictor
from atrous.inference.prediction import Prediction
from atrous.inference.predictions import PredictionRecord, save_predictions
from atrous.inference.predictor import Predictor
from atrous.networks.build import build_network, build_network_from, describe_network
from atrous.networks.model_file import ModelCard, load_model
from atrous.networks.segmenter import Segmenter
from atrous.networks.weights import start_weights
from atrous.reports.html import write_report
from atrous.scoring.score import score

Say = Callable[[str], None]
Report = Callable[[Progress], None]

CONFIG_NAME, METRICS_NAME = "config.yaml", "metrics.json"


class Model:
    """A network with its classes, ready to label pictures.

    Args:
        network: The network, in evaluation mode.
        card: What its file says of it.
        device: auto, cpu, cuda, cuda:1, mps.
        precision: auto (fp32), fp32 or bf16.
    """

    def __init__(self, network: Segmenter, card: ModelCard, *, device: str = "auto", precision: str = "auto") -> None:
        self.network = network
        self.card = card
        self._device = device
        self._precision = precision

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names by index."""
        return self.card.label_space.names

    @property
    def label_space(self) -> LabelSpace:
        """Names, ids and colours of the classes."""
        return self.card.label_space

    @property
    def output_stride(self) -> int:
        """Input resolution / feature resolution: 4, 8, 16 or 32; set it at any time."""
        return self.network.output_stride

    @output_stride.setter
    def output_stride(self, output_stride: int) -> None:
        self.network.output_stride = output_stride

    def predict(
        self,
        source: Any,
        *,
        output_stride: int | None = None,
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        window: int | None = None,
        probabilities: bool = False,
        min_confidence: float = 0.0,
    ) -> Prediction | list[Prediction] | Iterator[Prediction]:
        """Label pictures.

        Args:
            source: A path, a PIL picture, a uint8 array (H, W, 3), a tensor (3, H, W) of uint8 or of floats in [0, 1]:
                gives one prediction. A list of them: a list. A folder or a glob: an iterator.
            output_stride: For these pictures alone; the network's where left out.
            scales: Scales whose probabilities are averaged.
            flip: Whether the mirrored picture is averaged in.
            window: Side of a sliding window in pixels.
            probabilities: Whether to keep the probabilities of every class.
            min_confidence: Pixels below it get the data's ignored id.
        Raises:
            UsageError: The source is something else, or there is no such file.
            DataError: A file cannot be read as a picture.
        """
        predictor = self.build_predictor(output_stride=output_stride, scales=scales, flip=flip, window=window)
        return predictor.predict(source, probabilities=probabilities, min_confidence=min_confidence)

    def build_predictor(self, *, say: Say | None = None, **options: Any) -> Predictor:
        """Build what labels pictures under given evaluation options; see `EvaluationConfig`.

        Raises:
            ConfigError: An option that is unknown or out of its range.
        """
        try:
            config = Config.model_validate({"evaluation": {"precision": self._precision} | options})
        except ValidationError as error:
            raise_problems(describe_validation_error(error, {}))
        require_valid(config)
        return build_predictor(self.network, self.label_space, config.evaluation, self._device, say=say)


@dataclass(frozen=True)
class Run:
    """A training that has ended or was interrupted.

    Args:
        folder: Where everything of it lies.
        scores: The best validation; None where the run was interrupted before the first.
        interrupted: Whether steps are left to do.
    """

    folder: Path
    scores: Scores | None
    interrupted: bool = False

    @property
    def report(self) -> Path:
        """The page to look at."""
        return self.folder / "report.html"

    @property
    def model(self) -> Model:
        """The best model, read from the folder."""
        return load(self.folder)


def build(
    name: str = "deeplabv3-lite0", *, classes: int, weights: str = "none", output_stride: int = 16, **options: Any
) -> Segmenter:
    """Build a network: (B, 3, H, W) uint8 or [0, 1] floats -> logits (B, classes, H, W).

    Args:
        name: `<family>-<backbone>`, see `atrous models`.
        classes: Scored classes.
        weights: none, imagenet, or a file.
        output_stride: Input resolution / feature resolution, settable later on the network.
        options: Other fields of the model's settings, such as `multi_grid=(1, 2, 4)` or `head={"rates": [6, 12]}`.
    Raises:
        ConfigError: An unknown name or option, or a stride that the network cannot have.
    """
    model = {"name": name, "weights": weights, "output_stride": output_stride, **options}
    network = build_network_from(model, classes)
    start_weights(network, name, weights)
    return network


def load(path: str | Path, *, device: str = "auto", precision: str = "auto") -> Model:
    """Open a model.

    Args:
        path: A run folder, a .safetensors file of atrous, or torchvision's DeepLabv3 state dict (.pth).
        device: auto, cpu, cuda, cuda:1, mps.
        precision: auto (fp32), fp32 or bf16.
    Raises:
        ModelFileError: No such file, damaged, or of another kind.
        MachineError: The device is not there.
    """
    network, card = load_model(Path(path))
    model = Model(network.eval(), card, device=device, precision=precision)
    model.build_predictor()  # fails now if the device is not there, and puts the network on it
    return model


def train(
    data: str | Path | Splits | tuple[SegmentationDataset, SegmentationDataset],
    *,
    model: str | None = None,
    recipe: str | Path | None = None,
    out: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    progress: Report | None = None,
    say: Say | None = None,
    **options: Any,
) -> Run:
    """Train a network.

    Args:
        data: A registered name, `name=PATH`, a folder, or a pair of Python data sets: to train on, and to score on.
        model: `<family>-<backbone>`, see `atrous models`.
        recipe: A YAML file or a shipped recipe.
        out: The run's folder; runs/<data>-<model>-<number> where left out.
        set: Any setting by its dotted key, such as {"training.norm": "frozen"}.
        progress: Told where the work stands.
        say: Told what was decided and found.
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
    return run_training(loaded, splits=splits, progress=progress, say=say)


def run_training(
    loaded: LoadedConfig,
    *,
    splits: Splits | None = None,
    resume: Path | None = None,
    progress: Report | None = None,
    say: Say | None = None,
) -> Run:
    """Train as a checked configuration says, from the beginning or from a run's last checkpoint.

    Args:
        loaded: The configuration.
        splits: The data, where the configuration does not name them.
        resume: The folder of a run to go on with.
        progress: Told where the work stands.
        say: Told what was decided and found.
    Raises:
        UsageError: The folder holds a run already, or the run to resume began with other settings.
        ModelFileError: The run to resume has no checkpoint, or its checkpoint is damaged.
        DataError: Data that cannot be trained on, or that is not the data the run began with.
    """
    started = time.monotonic()
    from atrous.training.checkpoint import LAST_NAME, load_checkpoint
    from atrous.training.fit import Fit

    checkpoint = load_checkpoint(resume / LAST_NAME) if resume else None
    config = loaded.config
    if resume:
        _require_same_settings(config, resume)
    folder = resume or _choose_folder(config)
    splits = splits or build_splits(config.data)
    for note in (splits.layout, *splits.notes):
        _tell(say, note)
    statistics, findings = check_training_data(config.data, splits, progress)
    for finding in findings:
        _tell(say, finding)
    folder.mkdir(parents=True, exist_ok=True)
    fit = Fit(config, splits, statistics, folder, started=started, checkpoint=checkpoint, say=say, progress=progress)
    if checkpoint is None:
        save_text(folder / CONFIG_NAME, dump_config(config))  # not before it is sure that there will be a run
    interrupted = fit.run()
    fit.finish(interrupted=interrupted)
    write_report(folder)
    return Run(folder, fit.standing.best_scores, interrupted)


def plan_training(loaded: LoadedConfig) -> list[str]:
    """Say what a training would do, without doing it; the data is read and checked.

    Raises:
        UsageError: The folder holds a run already.
        ConfigError: A network or a crop that cannot be.
        DataError: Data that cannot be trained on.
    """
    from atrous.training.setup import require_cells

    config = loaded.config
    folder = _choose_folder(config)
    splits = build_splits(config.data)
    statistics, findings = check_training_data(config.data, splits)
    model, training = config.model, config.training
    require_cells(build_network(model, splits.train.label_space.num_classes), training.crop)
    about = describe_network(model.name, **model.model_dump(exclude={"name", "weights"}))
    length = next(
        f"{value:g} {word}"
        for word, value in (
            ("epochs", training.epochs),
            ("steps", training.iterations),
            ("minutes", training.max_minutes),
        )
        if value is not None
    )
    return [
        f"data: {splits.layout}",
        *splits.notes,
        *findings,
        f"train: {len(splits.train)} pictures, val: {len(splits.val)} pictures, {len(statistics.pixels)} classes",
        f"model: {model.name}, {about['parameters']:,} parameters, output stride {model.output_stride}, "
        f"rates {', '.join(map(str, about['head_rates'])) or 'none'}",
        f"training: {length}, batch {training.batch} x {training.accumulate}, crop {training.crop}, lr {training.lr:g}",
        f"run: {folder}",
    ]


def preview_training(loaded: LoadedConfig, path: Path) -> Path:
    """Write 16 augmented pictures with their masks, as the training would see them.

    Raises:
        DataError: Data that cannot be read.
    """
    splits = build_splits(loaded.config.data)
    save_preview(build_stream(splits.train, loaded.config.training), splits.train.label_space, path)
    return path


def evaluate(
    model: Model | Run | str | Path,
    data: SegmentationDataset | str | Path | None = None,
    *,
    output_stride: int | None = None,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
    window: int | None = None,
    precision: str = "auto",
    device: str = "auto",
    data_root: str | None = None,
    progress: Report | None = None,
    say: Say | None = None,
) -> Scores:
    """Score a model on pictures with masks, each at its own size.

    Args:
        model: A model, a run, or what `load` opens.
        data: What to score on, every pair of it; a run's own validation data where left out.
        output_stride: The build's where left out.
        scales: Scales whose probabilities are averaged.
        flip: Whether the mirrored picture is averaged in.
        window: Side of a sliding window in pixels; where left out, as in the validations of its training.
        precision: fp32 or bf16; auto as in the validations of its training.
        device: auto, cpu, cuda, cuda:1, mps.
        data_root: Folder in which registered data sets are looked for.
        progress: Told where the work stands.
        say: Told what was decided by itself.
    Raises:
        UsageError: No data is given and the model is no run.
        ModelFileError: The model cannot be opened.
        DataError: The data's classes are not the model's, or a file cannot be read.
    """
    opened, folder = _open(model, device)
    dataset = _find_scored_data(data, folder, opened.label_space, data_root, say)
    validated = Protocol.from_json(opened.card.protocol) if opened.card.protocol else Protocol()
    predictor = opened.build_predictor(
        output_stride=output_stride,
        scales=tuple(scales),
        flip=flip,
        window=window or validated.window,
        precision=validated.precision if precision == "auto" else precision,
        say=say,
    )
    return score(predictor, dataset, progress=progress)


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
    device: str = "auto",
    formats: Sequence[str] = ("labels", "overlay"),
    probabilities: bool = False,
    min_confidence: float | None = None,
    progress: Report | None = None,
    say: Say | None = None,
) -> PredictionRecord:
    """Label files, folders and globs into a folder.

    Args:
        inputs: Pictures, folders (sub-folders are mirrored) and globs.
        model: A model, a run, or what `load` opens.
        out: Folder of the results.
        output_stride: The build's where left out.
        scales: Scales whose probabilities are averaged.
        flip: Whether the mirrored picture is averaged in.
        window: Side of a sliding window in pixels.
        precision: auto (fp32), fp32 or bf16.
        device: auto, cpu, cuda, cuda:1, mps.
        formats: labels are always written; overlay and confidence beside them.
        probabilities: Whether to write the probabilities of every class.
        min_confidence: Pixels below it get the data's ignored id.
        progress: Told of each picture.
        say: Told what was decided by itself.
    Raises:
        UsageError: An input does not exist, two have one output name, or `out` lies in an input folder.
        ModelFileError: The model cannot be opened.
    """
    opened, _ = _open(model, device)
    predictor = opened.build_predictor(
        output_stride=output_stride, scales=tuple(scales), flip=flip, window=window, precision=precision, say=say
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


def _open(model: Model | Run | str | Path, device: str) -> tuple[Model, Path | None]:
    """Return an opened model and the folder of its run, if it has one."""
    if isinstance(model, Model):
        return model, None
    folder = model.folder if isinstance(model, Run) else Path(model)
    return load(folder, device=device), folder if folder.is_dir() else folder.parent


def _find_scored_data(
    data: SegmentationDataset | str | Path | None,
    folder: Path | None,
    space: LabelSpace,
    root: str | None,
    say: Say | None,
) -> SegmentationDataset:
    if data is not None and not isinstance(data, str | Path):
        return data
    is_run = folder is not None and (folder / CONFIG_NAME).is_file()
    if data is None:
        if folder is None or not is_run:
            raise UsageError("no data to score on", "Give DATA, or a run folder, which knows its own validation data.")
        return rebuild_splits(folder).val
    classes = dict(zip(space.ids, space.names, strict=True))
    given = {"data.source": str(data), "data.root": root, "data.classes": classes, "data.ignore": space.ignored_ids}
    dataset = build_all_pairs(load_config(options=given).config.data)
    if folder is not None and is_run:
        _warn_of_seen_pictures(folder, dataset, say)
    return dataset


def _warn_of_seen_pictures(folder: Path, dataset: SegmentationDataset, say: Say | None) -> None:
    try:
        seen = set(_list_files(rebuild_splits(folder).train))
    except AtrousError:
        _tell(say, "the run's own data are not here, so it is not known whether it was trained on these pictures")
        return
    shared = sum(path in seen for path in _list_files(dataset))
    if shared:
        _tell(say, f"warning: the model was trained on {shared} of these {len(dataset)} pictures")


def _list_files(dataset: SegmentationDataset) -> list[Path]:
    paths = [dataset.picture_path(index) for index in range(len(dataset))]
    return [path.resolve() for path in paths if path is not None]


def rebuild_splits(folder: Path) -> Splits:
    """Find the data that a run was trained and scored on, as its configuration says.

    Raises:
        DataError: They are not where they were.
    """
    return build_splits(load_config(recipe=folder / CONFIG_NAME).config.data)


def _name_folder(config: Config) -> Path:
    source = config.data.source
    data = source.split("=", 1)[0] if "=" in source and not Path(source).exists() else Path(source).resolve().name
    stem = f"{data}-{config.model.name.replace('/', '-')}"
    number = 1
    while (folder := Path("runs") / f"{stem}-{number}").exists():
        number += 1
    return folder


def _choose_folder(config: Config) -> Path:
    """Return the folder of a new run, which may not be there yet.

    Raises:
        UsageError: It holds a run already.
    """
    folder = Path(config.output.folder) if config.output.folder else _name_folder(config)
    if (folder / CONFIG_NAME).exists():
        raise UsageError(
            f"{folder} holds a run already", f"Choose another --out, or go on with it: atrous train --resume {folder}"
        )
    return folder


def _require_same_settings(config: Config, folder: Path) -> None:
    """Refuse to go on with other settings than a run began with; where its data lies, and on what it runs, may change.

    Raises:
        UsageError: A setting of data, model, training or evaluation is another.
    """
    began = load_config(recipe=folder / CONFIG_NAME).config
    changed = [
        f"{section}.{name}"
        for section in ("data", "model", "training", "evaluation")
        for name, value in getattr(config, section)
        if value != getattr(getattr(began, section), name)
    ]
    changed = [key for key in changed if key not in ("data.source", "data.root")]
    if changed:
        raise UsageError(
            f"{folder} began with another {' and another '.join(changed)}",
            "A resumed run keeps its settings: leave that out, or start a new run.",
        )


def _tell(say: Say | None, text: str) -> None:
    if say is not None and text:
        say(text)
