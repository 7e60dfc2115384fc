"""A training as a whole: its data, its folder, its report; one training is in `training/`."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from atrous.config.load import LoadedConfig
from atrous.config.run_settings import list_settings, make_absolute, save_run_config
from atrous.config.schema import Config, TrainingConfig
from atrous.config.stages import list_stages
from atrous.core.data_source import PYTHON_SOURCE
from atrous.core.errors import ConfigError, ModelFileError, TrainingDiverged, UsageError, note_on_stop
from atrous.core.freed_memory import keeping_freed_memory
from atrous.core.metrics_file import is_finished, load_scores
from atrous.core.output_folder import open_folder
from atrous.core.records import MessageCallback, Note, NoteCollector, ProgressCallback, Scores, send_message
from atrous.core.run_folder import TRACKER_NAMES, RunFolder
from atrous.data.build import build_splits, check_training_data
from atrous.data.contracts import Splits
from atrous.data.digests import require_unseen
from atrous.data.inventory import find_root
from atrous.data.statistics import MaskStatistics
from atrous.model import Model, load
from atrous.reports.html import describe_run, write_report
from atrous.runs.continuation import find_given_length, find_moved_data, settle_settings
from atrous.runs.folder import describe_resume, find_continued, hold_run
from atrous.runs.kept_images import find_images, save_images

if TYPE_CHECKING:
    from atrous.training.world import World


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
    resume: str | Path | None = None,
    extend: str | Path | None = None,
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
        extend: The folder of a run to extend to the length in the configuration: of stages the last one.
        progress: Receives the progress.
        on_message: Receives messages about automatic choices and findings.
    Raises:
        UsageError: The folder already holds a run, the run to resume began with other settings, or it cannot be
            extended.
        ModelFileError: The run to resume has results and no checkpoint, or its checkpoint is damaged.
        DataError: The data cannot be used for training, or have changed since the run began.
        ConfigError: The settings of a stage are impossible; all stages are checked before the first one starts.
    """
    from atrous.training.world import open_world

    started, continued = time.monotonic(), find_continued(resume, extend)
    config = make_absolute(loaded.config)
    with keeping_freed_memory(), open_world() as world, ExitStack() as stack:
        collector = NoteCollector(on_message if world.is_writer else None)
        if world.is_writer:
            held = stack.enter_context(hold_run(config, continued))
            stack.enter_context(note_on_stop(lambda error: _describe_pause(error, held, config, continued)))
            if config.output.folder is None and continued is None:
                send_message(collector, f"run folder: {held.path}")
            length = find_given_length(loaded) if extend is not None else None
            prepared = _prepare(
                replace(loaded, config=config), held, splits, continued, length, progress, collector, world.size
            )
        # The other processes look at no data: they get what this one found.
        run, config, stages, is_resumed = world.share(lambda: prepared)
        sitting = _Sitting(world, run, config, stages, is_resumed, progress if world.is_writer else None, collector)
        scores, interrupted = _run_stages(sitting, started)
    return Run(run.path, scores, interrupted, tuple(collector.notes))


def _prepare(
    loaded: LoadedConfig,
    run: RunFolder,
    splits: Splits | None,
    continued: Path | None,
    length: Mapping[str, float] | None,
    progress: ProgressCallback | None,
    on_message: MessageCallback,
    processes: int,
) -> tuple[RunFolder, Config, tuple[Stage, ...], bool]:
    """Return a run that begins or continues: its folder, its settings, its stages, and whether it is resumed."""
    config, is_resumed = loaded.config, continued is not None and run.has_begun
    if continued is not None:
        config = settle_settings(find_moved_data(config), run, length)
        if not is_resumed:
            send_message(on_message, f"{run.path} has no checkpoint yet: it starts from its beginning")
    stages, config = prepare_stages(
        replace(loaded, config=config), run, splits, progress, on_message, is_resumed=is_resumed, processes=processes
    )
    return run, config, tuple(stages), is_resumed


@dataclass(frozen=True)
class _Sitting:
    """What the stages of a run have in common, from its start or its continuation to its end.

    Args:
        world: The processes that train.
        run: The run's own folder.
        config: The settings of the run as a whole.
        stages: All stages.
        is_resumed: Whether the run began in an earlier sitting.
        progress: Receives the progress.
        on_message: Receives messages about automatic choices and findings.
    """

    world: World
    run: RunFolder
    config: Config
    stages: tuple[Stage, ...]
    is_resumed: bool
    progress: ProgressCallback | None
    on_message: MessageCallback


def _run_stages(sitting: _Sitting, started: float) -> tuple[Scores | None, bool]:
    """Train the stages that have not finished; return the last scores, and whether the run was interrupted.

    Args:
        sitting: The run.
        started: `time.monotonic()` at the start of the command.
    """
    before: Stage | None = None
    scores: Scores | None = None
    for number, stage in enumerate(sitting.stages, start=1):
        if len(sitting.stages) > 1:
            sitting.on_message(f"stage {number} of {len(sitting.stages)}: {stage.run.path}")
        # The first stage of a run to resume must have begun; a later one may not have.
        has_begun = sitting.is_resumed and (before is None or stage.run.checkpoint.is_file())
        if has_begun and stage.run != sitting.run and is_finished(stage.run.metrics):
            scores = load_scores(stage.run.metrics)
            sitting.on_message(f"stage {number} had finished")
        else:
            scores, interrupted = _run_stage(_follow(stage, before, scores), sitting, started, has_begun=has_begun)
            if interrupted:
                return scores, True
        before, started = stage, time.monotonic()
    return scores, False


def prepare_stages(
    loaded: LoadedConfig,
    run: RunFolder,
    splits: Splits | None,
    progress: ProgressCallback | None,
    on_message: MessageCallback,
    *,
    is_resumed: bool = False,
    processes: int = 1,
) -> tuple[list[Stage], Config]:
    """Check the settings of every stage, then find and check its data.

    Args:
        loaded: The settings of the run as a whole.
        run: The run's folder.
        splits: The data, if the configuration does not name them.
        progress: Receives the progress.
        on_message: Receives messages about automatic choices and findings.
        is_resumed: Whether the run has its images already.
        processes: How many train together.
    Returns: The stages, and the settings of the run with the crops that were chosen.
    Raises:
        ConfigError: The settings of a stage are impossible.
        DataError: The data cannot be used for training.
    """
    from atrous.training.batch import require_parts, settle_batch
    from atrous.training.crop import settle_crop
    from atrous.training.feasibility import require_feasible, require_trainable

    config = loaded.config
    if splits is not None and any(key.startswith("data.") for settings in config.stages for key in settings):
        raise ConfigError(
            "stages: one sets a key of data, and the data were given as objects", "Remove it from the stages."
        )
    configs = list_stages(config)
    for stage_config in configs:
        require_parts(stage_config, processes)
        require_feasible(stage_config, is_resumed=is_resumed)
    given_crops = list_given_crops(loaded)
    stages: list[Stage] = []
    for number, stage_config in enumerate(configs, start=1):
        own_run = run if number == len(configs) else run.stage(number)
        output = stage_config.output.model_copy(update={"folder": str(own_run.path)})
        stage_config = stage_config.model_copy(update={"output": output})
        if stages and stage_config.data == stages[-1].config.data:
            stage = replace(stages[-1], config=stage_config, run=own_run)
        else:
            own = splits or _find_splits(stage_config, own_run, progress, is_resumed=is_resumed)
            if splits is None and not is_resumed:
                _require_outside(run, own)
            is_weighted = stage_config.training.class_weights != "none"
            statistics, findings = check_training_data(stage_config.data, own, progress, is_weighted=is_weighted)
            for earlier in stages:
                require_unseen(own.val, earlier.splits.train)
            notes = (Note("layout", own.layout), *own.notes, *(finding.to_note() for finding in findings))
            for note in notes:
                send_message(on_message, note)
            stage = Stage(stage_config, own_run, own, statistics, notes)
        if not is_resumed:
            num_classes, longest = stage.splits.train.label_space.num_classes, stage.statistics.longest_side_px
            settled, remark = settle_crop(stage_config, num_classes, longest, is_given=given_crops[number - 1])
            settled, other = settle_batch(settled, stage.splits.train, processes)
            stage = replace(stage, config=settled)
            for said in (None if remark is None else remark.to_note(), other):
                if said is not None and said not in stage.notes:
                    send_message(on_message, said)
                    stage = replace(stage, notes=(*stage.notes, said))
        require_trainable(stage.config, stage.splits, stage.statistics)
        stages.append(stage)
    return stages, _keep_chosen(config, [stage.config.training for stage in stages])


def _require_outside(run: RunFolder, splits: Splits) -> None:
    """Refuse a run folder among images or masks: its own images would be taken for some of them the next time."""
    roots, folders = set[Path](), set[Path]()
    for dataset in (splits.train, splits.val):
        for index in range(len(dataset)):
            for path in (dataset.image_path(index), dataset.mask_path(index)):
                if path is not None:
                    roots.add(find_root(path, dataset.key(index)))
                    folders.add(path.parent)
    # Where the split is a folder of its own, its name begins the keys: the folder above holds more than images.
    roots -= {parent for root in roots for parent in root.parents}
    place = run.path.resolve()
    for folder in sorted(roots | folders):
        if place.is_relative_to(folder.resolve()):
            raise UsageError(
                f"the run folder {run.path} is inside {folder}, a folder of the data", "Choose another `out`."
            )


def list_given_crops(loaded: LoadedConfig) -> list[bool]:
    """Return for each stage whether its crop is given, and not the default."""
    is_common = loaded.sources.get("training.crop") != "default"
    return [is_common or "training.crop" in settings for settings in loaded.config.stages or ({},)]


def _keep_chosen(config: Config, trainings: Sequence[TrainingConfig]) -> Config:
    """Return the settings of a run with the crop and the batch of each of its stages."""
    is_open = "auto" in (config.training.batch, *(stage.get("training.batch") for stage in config.stages))
    for name in ("crop", "batch") if is_open else ("crop",):
        key, values = f"training.{name}", [getattr(training, name) for training in trainings]
        if len(set(values)) == 1 and not any(key in stage for stage in config.stages):
            config = config.model_copy(update={"training": config.training.model_copy(update={name: values[0]})})
        else:
            stages = [{**stage, key: value} for stage, value in zip(config.stages, values, strict=True)]
            config = config.model_copy(update={"stages": tuple(stages)})
    return config


def _find_splits(config: Config, run: RunFolder, progress: ProgressCallback | None, *, is_resumed: bool) -> Splits:
    if not is_resumed:
        return build_splits(config.data, progress=progress)
    again = f"atrous train DATA --resume {shlex.quote(str(run.find_whole().path))}"
    in_python = config.data.source == PYTHON_SOURCE
    hint = (
        "Give them again: atrous.train((train, val), resume=FOLDER)."
        if in_python
        else f"If they have moved: {again}; or `data_root=FOLDER`, the folder that holds them."
    )
    return find_images(run, config.data, needed=("train", "val"), hint=hint)


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


def _run_stage(stage: Stage, sitting: _Sitting, started: float, *, has_begun: bool) -> tuple[Scores | None, bool]:
    """Train one stage, from its beginning or its last checkpoint; its memory is free when this returns.

    Args:
        stage: What to train.
        sitting: The run.
        started: `time.monotonic()` at the start of the stage.
        has_begun: Whether there is a checkpoint to continue from.
    Returns: Its best scores, and whether it was interrupted.
    """
    from atrous.training.checkpoint import load_checkpoint
    from atrous.training.conclude import conclude_training
    from atrous.training.journal import Journal
    from atrous.training.loop import run_steps
    from atrous.training.prepare import prepare_training
    from atrous.training.torch_state import restored_torch_state

    world, config = sitting.world, stage.config
    checkpoint = load_checkpoint(stage.run.checkpoint) if has_begun else None
    with (
        open_folder(stage.run.path) if world.is_writer else nullcontext(),
        restored_torch_state(deterministic=config.training.deterministic),
        Journal(
            stage.run,
            notes=stage.notes,
            is_writer=world.is_writer,
            on_message=sitting.on_message,
            progress=sitting.progress,
        ) as journal,
    ):
        training = prepare_training(
            config,
            stage.splits,
            stage.statistics,
            journal,
            settings=list_settings(sitting.config),
            world=world,
            started=started,
            checkpoint=checkpoint,
        )
        if world.is_writer:
            with _keeping_record(stage, sitting):  # before the trackers: killed from here on, a run can be resumed
                journal.trackers.open(
                    config.output.logger,
                    stage.run,
                    config.model_dump(mode="json"),
                    former=checkpoint.record.get("trackers") if checkpoint else None,
                    step=training.state.step,
                )
        with note_on_stop(lambda error: _describe_way_on(error, stage.run, sitting)):
            journal.begin()
            was_stopped = run_steps(training, partial(_renew_report, stage.run))
            interrupted = not training.is_done
            conclude_training(training, interrupted=interrupted)
            journal.trackers.close("aborted" if interrupted else "success")
            if world.is_writer:
                write_report(stage.run.path)
            world.share(lambda: None)  # the next stage reads what this one has written
    # A stage that was asked to stop in its last step has finished, and yet the run is interrupted.
    return training.state.best_scores, interrupted or (was_stopped and stage.run != sitting.run)


def _renew_report(run: RunFolder) -> None:
    """Let the report of a run that is extended say that it has not reached its end, whatever ends it now."""
    if run.report.is_file():
        with suppress(ModelFileError):  # damaged records, which the end of the training writes again
            write_report(run.path)


@contextmanager
def _keeping_record(stage: Stage, sitting: _Sitting) -> Iterator[None]:
    """Write the settings of a run and of its stage, and the images of all its stages: later ones get the same data.

    A resumed run writes them again, since its data may have moved. If the block fails, a new run leaves nothing,
    unless a tracker has written something: then all of it stays, and the run can be resumed.
    """
    runs = [sitting.run, *(each.run for each in sitting.stages)]
    was_run = sitting.run.is_run
    try:
        save_run_config(sitting.run.config, sitting.config)  # first: with it the run can be resumed
        if stage.run != sitting.run:
            save_run_config(stage.run.config, stage.config)
        for each in sitting.stages:
            save_images(each.run, each.config.data, each.splits)
        yield
    except BaseException:
        has_tracked = any(run.tracker(name).exists() for run in runs for name in TRACKER_NAMES)
        for run in [] if was_run or has_tracked else runs:
            for file in (run.config, run.images):
                with suppress(OSError):  # the error that led here says more
                    file.unlink(missing_ok=True)
            with suppress(OSError):  # not empty, or not made yet
                run.path.rmdir()
        raise


def _describe_pause(error: BaseException, run: RunFolder, config: Config, resume: Path | None) -> str:
    """Return how to continue a run that Ctrl-C has stopped before its first step of this time."""
    is_new = isinstance(error, KeyboardInterrupt) and not getattr(error, "__notes__", ())
    return f"Continue with: {describe_resume(run, config)}" * (is_new and resume is not None)


def _describe_way_on(error: BaseException, stage: RunFolder, sitting: _Sitting) -> str:
    """Return how to continue a run that something has stopped."""
    if isinstance(error, TrainingDiverged):  # it would diverge again: a run keeps its settings
        best = stage.model
        return f"Its best weights so far can start that run: `weights={shlex.quote(str(best))}`" * best.is_file()
    return f"Continue with: {describe_resume(sitting.run, sitting.config)}"  # without a checkpoint from its beginning


def find_hard_classes(scores: Scores) -> tuple[str, ...]:
    """Return the quarter of the classes with the lowest IoU, at least one, lowest first."""
    rows = sorted((row.iou, row.name) for row in scores.classes if row.iou is not None)
    return tuple(name for _, name in rows[: max(len(rows) // 4, 1)])
