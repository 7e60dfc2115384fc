"""A training as a whole: its data, its folder, its report; the loop itself is `training/loop.py`."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from atrous.config.load import LoadedConfig, dump_config, load_config
from atrous.config.schema import Config
from atrous.config.stages import list_stages
from atrous.core.data_source import FOLDER, resolve_source
from atrous.core.errors import ConfigError, UsageError
from atrous.core.files import load_json, save_text
from atrous.core.records import MessageCallback, ProgressCallback, Scores, send_message
from atrous.core.run_folder import CONFIG_NAME, METRICS_NAME, REPORT_NAME, RunFolder
from atrous.data.build import build_splits, build_stream, check_training_data, list_pass
from atrous.data.contracts import Splits
from atrous.data.preview import save_preview
from atrous.data.statistics import MaskStatistics
from atrous.model import Model, load
from atrous.networks.build import describe_network
from atrous.networks.model_file import MODEL_FILE_NAME
from atrous.reports.html import write_report


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
        """The page to look at: the run's own, or before its last stage that of the stage it was interrupted in."""
        pages = [self.folder / REPORT_NAME, *sorted(self.folder.glob(f"stage-*/{REPORT_NAME}"), reverse=True)]
        return next((page for page in pages if page.is_file()), pages[0])

    @property
    def model(self) -> Model:
        """The best model, read from the folder."""
        return load(self.folder)


@dataclass(frozen=True)
class Stage:
    """One training of a run, ready to start.

    Args:
        config: Its settings.
        folder: Where it lies: the run's folder for the last one, `stage-1` and so on in it for those before.
        splits: Its data.
        statistics: What the training masks hold.
    """

    config: Config
    folder: Path
    splits: Splits
    statistics: MaskStatistics


def run_training(
    loaded: LoadedConfig,
    *,
    splits: Splits | None = None,
    resume: Path | None = None,
    progress: ProgressCallback | None = None,
    on_message: MessageCallback | None = None,
) -> Run:
    """Train as a checked configuration says, from the beginning or from a run's last checkpoint.

    Of several stages each is a training of its own, from the best weights of the one before. A resumed run goes on in
    the stage that had not finished.

    Args:
        loaded: The configuration.
        splits: The data, where the configuration does not name them.
        resume: The folder of a run to go on with.
        progress: Receives the progress.
        on_message: Receives messages about automatic choices and findings.
    Raises:
        UsageError: The folder holds a run already, or the run to resume began with other settings.
        ModelFileError: The run to resume has no checkpoint, or its checkpoint is damaged.
        DataError: Data that cannot be trained on, or that is not the data the run began with.
        ConfigError: A stage that cannot be; all are looked at before the first one starts.
    """
    from atrous.training.checkpoint import LAST_NAME

    started = time.monotonic()
    config = loaded.config
    if resume:
        _require_same_settings(config, resume)
    folder = resume or _choose_folder(config)
    stages = _prepare_stages(config, folder, splits, progress, on_message)
    before: Stage | None = None
    scores: Scores | None = None
    interrupted = False
    for number, stage in enumerate(stages, start=1):
        if len(stages) > 1:
            send_message(on_message, f"stage {number} of {len(stages)}: {stage.folder}")
        # The first stage of a run to resume must have begun; a later one may not have.
        has_begun = resume is not None and (before is None or (stage.folder / LAST_NAME).is_file())
        if has_begun and stage.folder != folder and _has_finished(stage.folder):
            scores = Scores.from_json(load_json(stage.folder / METRICS_NAME))
            send_message(on_message, f"stage {number} had finished")
        else:
            followed = _follow(stage, before, scores)
            result = _run_stage(
                followed, folder, config, started, has_begun=has_begun, progress=progress, on_message=on_message
            )
            scores, interrupted = result.scores, result.interrupted
            if interrupted:
                break
        before, started = stage, time.monotonic()
    return Run(folder, scores, interrupted)


def _prepare_stages(
    config: Config,
    folder: Path,
    splits: Splits | None,
    progress: ProgressCallback | None,
    on_message: MessageCallback | None,
) -> list[Stage]:
    """Find and check the data of every stage, and what each will train on them.

    Raises:
        ConfigError: A stage that cannot be.
        DataError: Data that cannot be trained on.
    """
    from atrous.training.prepare import require_trainable

    if splits is not None and any(key.startswith("data.") for settings in config.stages for key in settings):
        raise ConfigError("stages: one sets a key of data, which were given as objects", "Take it out of the stages.")
    stages: list[Stage] = []
    configs = list_stages(config)
    for number, stage_config in enumerate(configs, start=1):
        place = folder
        if number < len(configs):
            place = folder / f"stage-{number}"
            output = stage_config.output.model_copy(update={"folder": str(place)})
            stage_config = stage_config.model_copy(update={"output": output})
        if stages and stage_config.data == stages[-1].config.data:
            stage = replace(stages[-1], config=stage_config, folder=place)
        else:
            own = splits or build_splits(stage_config.data)
            statistics, findings = check_training_data(stage_config.data, own, progress)
            for sentence in (own.layout, *own.notes, *(finding.message for finding in findings)):
                send_message(on_message, sentence)
            stage = Stage(stage_config, place, own, statistics)
        if stages:  # the first one fails at once by itself
            require_trainable(stage.config, stage.splits, stage.statistics)
        stages.append(stage)
    return stages


def _follow(stage: Stage, before: Stage | None, scores: Scores | None) -> Stage:
    """Return a stage as it is after the one before: from its weights, with the classes that it found hard."""
    if before is None:
        return stage
    config = stage.config
    model = config.model.model_copy(update={"weights": str(before.folder / MODEL_FILE_NAME)})
    training = config.training
    if training.hard_classes == "auto" and scores is not None:
        training = training.model_copy(update={"hard_classes": find_hard_classes(scores)})
    return replace(stage, config=config.model_copy(update={"model": model, "training": training}))


def _run_stage(
    stage: Stage,
    folder: Path,
    whole: Config,
    started: float,
    *,
    has_begun: bool,
    progress: ProgressCallback | None,
    on_message: MessageCallback | None,
) -> Run:
    """Train one stage, from its beginning or its last checkpoint; all that it held is free when it returns.

    Args:
        stage: What to train.
        folder: The run's own folder.
        whole: The settings of the run as a whole, which are written there.
        started: `time.monotonic()` at the start of the stage.
        has_begun: Whether there is a checkpoint to go on from.
        progress: Receives the progress.
        on_message: Receives messages about automatic choices and findings.
    """
    from atrous.training.checkpoint import LAST_NAME, load_checkpoint
    from atrous.training.loop import Fit

    checkpoint = load_checkpoint(stage.folder / LAST_NAME) if has_begun else None
    stage.folder.mkdir(parents=True, exist_ok=True)
    fit = Fit(
        stage.config,
        stage.splits,
        stage.statistics,
        stage.folder,
        started=started,
        checkpoint=checkpoint,
        on_message=on_message,
        progress=progress,
    )
    if checkpoint is None:  # not before it is sure that there will be a run
        for place, settings in {stage.folder: stage.config, folder: whole}.items():
            save_text(place / CONFIG_NAME, dump_config(settings))
    interrupted = fit.run()
    fit.finish(interrupted=interrupted)
    write_report(stage.folder)
    # Asked to stop at its last step, a stage has finished, and the run is interrupted all the same.
    is_last = stage.folder == folder
    return Run(stage.folder, fit.train_state.best_scores, interrupted or (fit.stopped and not is_last))


def _has_finished(folder: Path) -> bool:
    """Whether the training in a folder came to its end; its metrics are the last thing that it writes of itself."""
    metrics = folder / METRICS_NAME
    return metrics.is_file() and not load_json(metrics)["training"]["interrupted"]


def find_hard_classes(scores: Scores) -> tuple[str, ...]:
    """Return the quarter of the classes with the lowest IoU, at least one, lowest first."""
    rows = sorted((row.iou, row.name) for row in scores.classes if row.iou is not None)
    return tuple(name for _, name in rows[: max(len(rows) // 4, 1)])


def plan_training(loaded: LoadedConfig) -> list[str]:
    """Say what a training would do, without doing it; the data is read and checked.

    Raises:
        UsageError: The folder holds a run already.
        ConfigError: A network or a crop that cannot be.
        DataError: Data that cannot be trained on.
    """
    from atrous.training.prepare import require_trainable

    folder = _choose_folder(loaded.config)
    notes: list[str] = []
    stages = _prepare_stages(loaded.config, folder, None, None, notes.append)
    require_trainable(stages[0].config, stages[0].splits, stages[0].statistics)
    lines = [f"data: {notes[0]}", *notes[1:]]
    for number, stage in enumerate(stages, start=1):
        if len(stages) > 1:
            lines.append(f"stage {number} of {len(stages)}:")
        lines += _describe_stage(stage)
    return [*lines, f"run: {folder}"]


def _describe_stage(stage: Stage) -> list[str]:
    model, training = stage.config.model, stage.config.training
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
        f"train: {len(stage.splits.train)} images, val: {len(stage.splits.val)} images, "
        f"{len(stage.statistics.pixels)} classes",
        f"model: {model.name}, {about['parameters']:,} parameters, output stride {model.output_stride}, "
        f"rates {', '.join(map(str, about['head_rates'])) or 'none'}",
        f"training: {length}, batch {training.batch} x {training.accumulate}, crop {training.crop}, lr {training.lr:g}",
    ]


def preview_training(loaded: LoadedConfig) -> Path:
    """Write the first 16 augmented images of a training, or of its first stage, beside their masks.

    Returns:
        The image file, in the folder of the run if one is given, else in runs/.
    Raises:
        DataError: Data that cannot be read.
        ConfigError: The data do not have a class that is named as hard.
    """
    config = list_stages(loaded.config)[0]
    splits = build_splits(config.data)
    one_pass = None
    if not isinstance(config.training.hard_classes, str):
        statistics, _ = check_training_data(config.data, splits)
        one_pass = list_pass(config.training, splits.train.label_space, statistics)
    path = RunFolder(Path(config.output.folder or "runs")).preview
    save_preview(build_stream(splits.train, config.training, one_pass), splits.train.label_space, path)
    return path


def _name_folder(config: Config) -> Path:
    source = resolve_source(config.data.source, config.data.root)
    data = source.root.resolve().name if source.dataset == FOLDER and source.root else source.dataset
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
        for name, value in vars(getattr(config, section)).items()
        if value != getattr(getattr(began, section), name)
    ]
    changed = [key for key in changed if key not in ("data.source", "data.root")]
    changed += ["stages"] if config.stages != began.stages else []
    if changed:
        raise UsageError(
            f"{folder} began with another {' and another '.join(changed)}",
            "A resumed run keeps its settings: leave that out, or start a new run.",
        )
