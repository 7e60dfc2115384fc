"""A training as a whole: its data, its folder, its report; one training is in `training/`."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path

from atrous.config.load import LoadedConfig
from atrous.config.run_settings import list_differences, list_settings, make_absolute, save_run_config
from atrous.config.schema import Config
from atrous.config.stages import list_stages
from atrous.core.data_source import FOLDER, resolve_source
from atrous.core.errors import ConfigError, TrainingDiverged, UsageError, note_on_stop
from atrous.core.findings import describe_count
from atrous.core.metrics_file import is_finished, load_scores
from atrous.core.records import MessageCallback, Note, NoteCollector, ProgressCallback, Scores, send_message
from atrous.core.run_folder import RunFolder
from atrous.data.build import build_splits, build_stream, check_training_data, list_pass
from atrous.data.contracts import Splits
from atrous.data.preview import save_preview
from atrous.data.statistics import MaskStatistics
from atrous.model import Model, load
from atrous.networks.build import describe_network
from atrous.reports.html import describe_run, write_report


@dataclass(frozen=True, repr=False)
class Run:
    """A finished or interrupted training.

    Args:
        folder: The run folder.
        scores: The best validation; None if the run was interrupted before the first one.
        interrupted: Whether steps remain.
        notes: What was assumed, found and chosen automatically.
    """

    folder: Path
    scores: Scores | None
    interrupted: bool = False
    notes: tuple[Note, ...] = ()

    def __repr__(self) -> str:
        words = "no scores" if self.scores is None or self.scores.miou is None else f"mIoU {self.scores.miou:.4f}"
        return f"Run({str(self.folder)!r}, {words}{', interrupted' if self.interrupted else ''})"

    def _repr_html_(self) -> str:
        """Return the curves of the training and its scores, which a notebook shows."""
        return describe_run(self.folder, repr(self)) + ("" if self.scores is None else self.scores._repr_html_())

    @property
    def report(self) -> Path:
        """The report of the run; that of the latest stage if the run was interrupted before its last one."""
        run = RunFolder(self.folder)
        pages = [run.report, *(stage.report for stage in run.iter_stages())]
        return next((page for page in pages if page.is_file()), run.report)

    @property
    def model(self) -> Model:
        """The best model, read from the folder."""
        return load(self.folder)


@dataclass(frozen=True)
class Stage:
    """One training of a run, ready to start.

    Args:
        config: Its settings.
        run: Its folder: that of the whole run for the last stage, `stage-1` and so on inside it for earlier ones.
        splits: Its data.
        statistics: Pixels of each class in the training masks.
        notes: What was assumed of its data and found in them.
    """

    config: Config
    run: RunFolder
    splits: Splits
    statistics: MaskStatistics
    notes: tuple[Note, ...]


def run_training(
    loaded: LoadedConfig,
    *,
    splits: Splits | None = None,
    resume: Path | None = None,
    progress: ProgressCallback | None = None,
    on_message: MessageCallback | None = None,
) -> Run:
    """Train from the beginning or from a run's last checkpoint.

    Each of several stages is a training of its own that starts from the best weights of the stage before. A resumed run
    continues in the stage that had not finished.

    Args:
        loaded: The configuration.
        splits: The data, if the configuration does not name them.
        resume: The folder of a run to continue.
        progress: Receives the progress.
        on_message: Receives messages about automatic choices and findings.
    Raises:
        UsageError: The folder already holds a run, or the run to resume began with other settings.
        ModelFileError: The run to resume has no checkpoint, or its checkpoint is damaged.
        DataError: The data cannot be used for training, or have changed since the run began.
        ConfigError: The settings of a stage are impossible; all stages are checked before the first one starts.
    """
    started = time.monotonic()
    on_message = collector = NoteCollector(on_message)
    config = make_absolute(loaded.config)
    if resume:
        _require_same_settings(config, RunFolder(resume))
    run = RunFolder(resume) if resume else _choose_folder(config)
    if config.output.folder is None:
        send_message(on_message, f"run folder: {run.path}")
    stages = _prepare_stages(config, run, splits, progress, on_message)
    before: Stage | None = None
    scores: Scores | None = None
    interrupted = False
    for number, stage in enumerate(stages, start=1):
        if len(stages) > 1:
            send_message(on_message, f"stage {number} of {len(stages)}: {stage.run.path}")
        # The first stage of a run to resume must have begun; a later one may not have.
        has_begun = resume is not None and (before is None or stage.run.checkpoint.is_file())
        if has_begun and stage.run != run and is_finished(stage.run.metrics):
            scores = load_scores(stage.run.metrics)
            send_message(on_message, f"stage {number} had finished")
        else:
            followed = _follow(stage, before, scores)
            result = _run_stage(
                followed, run, config, started, has_begun=has_begun, progress=progress, on_message=on_message
            )
            scores, interrupted = result.scores, result.interrupted
            if interrupted:
                break
        before, started = stage, time.monotonic()
    return Run(run.path, scores, interrupted, tuple(collector.notes))


def _prepare_stages(
    config: Config,
    run: RunFolder,
    splits: Splits | None,
    progress: ProgressCallback | None,
    on_message: MessageCallback | None,
) -> list[Stage]:
    """Check the settings of every stage, then find and check its data.

    Raises:
        ConfigError: The settings of a stage are impossible.
        DataError: The data cannot be used for training.
    """
    from atrous.training.feasibility import require_feasible, require_trainable

    if splits is not None and any(key.startswith("data.") for settings in config.stages for key in settings):
        raise ConfigError(
            "stages: one sets a key of data, and the data were given as objects", "Remove it from the stages."
        )
    configs = list_stages(config)
    for stage_config in configs:
        require_feasible(stage_config)
    stages: list[Stage] = []
    for number, stage_config in enumerate(configs, start=1):
        own_run = run if number == len(configs) else run.stage(number)
        output = stage_config.output.model_copy(update={"folder": str(own_run.path)})
        stage_config = stage_config.model_copy(update={"output": output})
        if stages and stage_config.data == stages[-1].config.data:
            stage = replace(stages[-1], config=stage_config, run=own_run)
        else:
            own = splits or build_splits(stage_config.data)
            statistics, findings = check_training_data(stage_config.data, own, progress)
            notes = (Note("layout", own.layout), *own.notes, *(finding.to_note() for finding in findings))
            for note in notes:
                send_message(on_message, note)
            stage = Stage(stage_config, own_run, own, statistics, notes)
        require_trainable(stage.config, stage.splits, stage.statistics)
        stages.append(stage)
    return stages


def _follow(stage: Stage, before: Stage | None, scores: Scores | None) -> Stage:
    """Return a stage that starts from the weights of the one before, with the classes that it scored lowest."""
    if before is None:
        return stage
    config = stage.config
    model = config.model.model_copy(update={"weights": str(before.run.model.absolute())})
    training = config.training
    if training.hard_classes == "auto" and scores is not None:
        training = training.model_copy(update={"hard_classes": find_hard_classes(scores)})
    return replace(stage, config=config.model_copy(update={"model": model, "training": training}))


def _run_stage(
    stage: Stage,
    run: RunFolder,
    whole: Config,
    started: float,
    *,
    has_begun: bool,
    progress: ProgressCallback | None,
    on_message: MessageCallback | None,
) -> Run:
    """Train one stage, from its beginning or its last checkpoint; its memory is free when this returns.

    Args:
        stage: What to train.
        run: The run's own folder.
        whole: The settings of the run as a whole, which are written there.
        started: `time.monotonic()` at the start of the stage.
        has_begun: Whether there is a checkpoint to continue from.
        progress: Receives the progress.
        on_message: Receives messages about automatic choices and findings.
    """
    from atrous.training.checkpoint import load_checkpoint
    from atrous.training.conclude import conclude_training
    from atrous.training.journal import Journal
    from atrous.training.loop import run_steps
    from atrous.training.prepare import prepare_training
    from atrous.training.torch_state import restored_torch_state
    from atrous.training.world import World

    world, config = World.alone(), stage.config
    checkpoint = load_checkpoint(stage.run.checkpoint) if has_begun else None
    stage.run.path.mkdir(parents=True, exist_ok=True)
    with (
        restored_torch_state(deterministic=config.training.deterministic),
        Journal(
            stage.run,
            notes=stage.notes,
            is_writer=world.is_writer,
            on_message=on_message,
            progress=progress,
        ) as journal,
    ):
        training = prepare_training(
            config,
            stage.splits,
            stage.statistics,
            journal,
            settings=list_settings(whole),
            world=world,
            started=started,
            checkpoint=checkpoint,
        )
        if world.is_writer:
            journal.trackers.open(
                config.output.logger,
                stage.run,
                config.model_dump(mode="json"),
                former=checkpoint.record.get("trackers") if checkpoint else None,
                step=training.state.step,
            )
        if checkpoint is None:  # not before it is certain that there will be a run
            for folder, settings in {stage.run: config, run: whole}.items():
                save_run_config(folder.config, settings)
        with note_on_stop(lambda error: _describe_way_on(error, stage.run, run)):
            was_stopped = run_steps(training)
            interrupted = training.state.step < training.plan.total_steps
            conclude_training(training, interrupted=interrupted)
            journal.trackers.close("aborted" if interrupted else "success")
            write_report(stage.run.path)
    # A stage that was asked to stop in its last step has finished, and yet the run is interrupted.
    return Run(stage.run.path, training.state.best_scores, interrupted or (was_stopped and stage.run != run))


def _describe_way_on(error: BaseException, stage: RunFolder, run: RunFolder) -> str:
    """Return how to continue a run that something has stopped."""
    if isinstance(error, TrainingDiverged):  # it would diverge again: a run keeps its settings
        best = stage.model
        return f"Its best weights so far can start that run: `weights={shlex.quote(str(best))}`" * best.is_file()
    has_checkpoint = any(folder.checkpoint.is_file() for folder in (run, *run.iter_stages()))
    return f"Continue with: atrous train --resume {_quote(run)}" * has_checkpoint


def find_hard_classes(scores: Scores) -> tuple[str, ...]:
    """Return the quarter of the classes with the lowest IoU, at least one, lowest first."""
    rows = sorted((row.iou, row.name) for row in scores.classes if row.iou is not None)
    return tuple(name for _, name in rows[: max(len(rows) // 4, 1)])


def plan_training(loaded: LoadedConfig) -> list[str]:
    """Describe what a training would do, line by line; settings and data are checked, and nothing is written.

    Raises:
        UsageError: The folder already holds a run.
        ConfigError: The settings are impossible.
        DataError: The data cannot be used for training.
    """
    run = _choose_folder(loaded.config)
    notes: list[str] = []
    stages = _prepare_stages(loaded.config, run, None, None, notes.append)
    lines = [f"data: {notes[0]}", *notes[1:]]
    for number, stage in enumerate(stages, start=1):
        if len(stages) > 1:
            lines.append(f"stage {number} of {len(stages)}:")
        lines += _describe_stage(stage)
    return [*lines, f"run: {run.path}"]


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
        f"train: {describe_count(len(stage.splits.train), 'image')}, "
        f"val: {describe_count(len(stage.splits.val), 'image')}, "
        f"{describe_count(len(stage.statistics.pixels), 'class')}",
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


def _choose_folder(config: Config) -> RunFolder:
    """Return the folder of a new run.

    Raises:
        UsageError: There is a run in it, or a file in its place.
    """
    run = RunFolder(Path(config.output.folder) if config.output.folder else _name_folder(config))
    if run.is_run:
        raise UsageError(
            f"{run.path} already holds a run",
            f"Choose another `out`, or continue the run: atrous train --resume {_quote(run)}",
        )
    for path in (run.path, *run.path.parents):
        if path.exists() and not path.is_dir():
            raise UsageError(f"{run.path}: {path} is a file", "Choose another `out`.")
    return run


def _quote(run: RunFolder) -> str:
    return shlex.quote(str(run.path))


def _require_same_settings(config: Config, run: RunFolder) -> None:
    """Refuse to resume with other settings than the run began with, whether given now or edited into its config.yaml.

    Raises:
        UsageError: A setting of data, model, training, evaluation or stages differs, or the folder is that of a stage.
        ModelFileError: The run has no checkpoint, or its checkpoint is damaged or has another format.
    """
    from atrous.training.checkpoint import load_settings

    whole = run.find_whole()
    if whole != run:
        raise UsageError(
            f"{run.path} is a stage of {whole.path}", f"Resume the whole run: atrous train --resume {_quote(whole)}"
        )
    begun = next((folder for folder in (run, *run.iter_stages()) if folder.checkpoint.is_file()), run)
    changed = list_differences(config, load_settings(begun.checkpoint))
    if changed:
        verb = "differs" if len(changed) == 1 else "differ"
        raise UsageError(
            f"Cannot resume {run.path}: {' and '.join(changed)} {verb} from the original run",
            f"Remove the change from the command or from {run.config}, or start a new run.",
        )
