"""The steps of a training: batches in, weights, checkpoints and a curve out."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing

import torch

from atrous.core.errors import TrainingDiverged
from atrous.core.interruption import StopRequest
from atrous.core.records import Scores
from atrous.core.seeds import compute_step_seed
from atrous.core.system_errors import describe_reason
from atrous.data.build import build_loader
from atrous.data.sampling import Batch
from atrous.inference.convolutions import describe_convolutions
from atrous.networks.model_file import save_model
from atrous.training.bad_batch import join_batches, save_bad_batch
from atrous.training.checkpoint import Checkpoint, save_checkpoint
from atrous.training.conclude import build_card, reopen_metrics
from atrous.training.diagnosis import MISSED_VALIDATIONS, count_missed, diagnose_class
from atrous.training.optimizers import set_lr_factor
from atrous.training.prepare import Training
from atrous.training.schedules import compute_planned
from atrous.training.trackers import list_validation_values
from atrous.training.waiting import REPORTED_STEPS

STOPPING = (
    "stopping after this step, and its validation if one is due; the run can then be continued. "
    "Another Ctrl-C ends it now, at its last checkpoint."
)
CHECKPOINT_S = 120.0
"""Seconds between checkpoints, besides those at validations and stops: the most that a power cut costs."""


def run_steps(training: Training, on_reopened: Callable[[], None] | None = None) -> bool:
    """Train to the last step, to the validation that exhausts the patience, or until a signal asks to stop.

    Args:
        training: What is trained; its `state` tells afterwards how far it came.
        on_reopened: Called by the writer when metrics.json of an extended run says that it has not reached its end.
    Returns: Whether a signal asked to stop, even if that was in the last step.
    Raises:
        TrainingDiverged: A loss or a gradient is not finite.
        DataError: An image or a mask cannot be read.
        MachineError: A process that reads images died.
    """
    state, plan, wait = training.state, training.plan, training.wait
    saved = time.monotonic()
    reported = min(REPORTED_STEPS, plan.total_steps - state.step)
    with (
        StopRequest(lambda: training.journal.log(STOPPING)) as stop,
        closing(iter_steps(training)) as steps,
    ):  # closed, it ends the reading processes
        if state.step in (0, *(step for step, _ in plan.extended)):
            _save(training)  # from here on the run, or its extension, can be resumed, whatever ends it
            if training.world.is_writer and not training.is_done:
                reopen_metrics(training)
                if on_reopened is not None:
                    on_reopened()
        for batches, waited_s in () if training.is_done else steps:
            begun = time.monotonic()
            loss = _take_step(training, batches)
            training.averaged.update(training.network, state.step)
            state.step += 1
            state.losses += (loss,)
            if training.counts_classes:
                _count_classes(training, batches)
            wait.add(waited_s, time.monotonic() - begun)
            if wait.steps == reported:
                training.journal.log(wait.describe())
            _show(training, loss)
            is_due = state.step in plan.validation_steps
            if is_due:
                _validate(training)
            is_stopped = training.world.any(stop.requested)
            if is_due or is_stopped or time.monotonic() - saved > CHECKPOINT_S:
                _save(training)
                saved = time.monotonic()
            if is_stopped or training.is_done:
                break
        return training.world.any(stop.requested)


def _take_step(training: Training, batches: Sequence[Batch]) -> float:
    """Make a step; of one that diverges keep what is needed to make it again."""
    try:
        return training.step.take(batches, training.state.step + 1)
    except TrainingDiverged as error:
        parts, diverged = training.world.gather(batches), error

        def keep() -> str:
            try:
                return save_bad_batch(training, join_batches(parts), diverged)
            except Exception as failure:  # a full disk, or a user's data set: that the training diverged says more
                return f"The batch could not be kept: {describe_reason(failure)}"

        error.add_note(training.world.share(keep))  # to all, since any of them may report the error
        raise


def _count_classes(training: Training, batches: Sequence[Batch]) -> None:
    """Add the pixels of each class in the crops of a step to those seen before."""
    num_classes = training.splits.train.label_space.num_classes
    own = torch.zeros(num_classes, dtype=torch.int64)
    for batch in batches:
        own += torch.bincount(batch.labels[batch.labels < num_classes], minlength=num_classes)
    before = training.state.seen or (0,) * num_classes
    training.state.seen = tuple((torch.tensor(before) + training.world.reduce(own)).tolist())


def iter_steps(training: Training) -> Generator[tuple[list[Batch], float], None, None]:
    """Yield the batches of each remaining step with the seconds waited for them; set learning rate and dropout seed."""
    settings, start, total = training.config.training, training.state.step, training.plan.total_steps
    per_step = training.plan.samples_per_step
    loader = build_loader(
        training.splits.train,
        settings,
        training.one_pass,
        start_place=start * per_step,
        num_places=(total - start) * per_step,
        workers=training.workers,
        input_spec=training.network.input_spec,
        statistics=training.statistics,
        cache_bytes=training.cache_bytes,
        part=(training.world.rank, training.world.size),
    )
    for step in range(start, total):
        begun = time.monotonic()
        batches = [next(loader) for _ in range(settings.accumulate)]
        waited_s = time.monotonic() - begun
        set_lr_factor(training.step.optimizer, compute_planned(step, training.plan, settings))
        # Dropout too is a function of (seed, step), and another one in each process.
        torch.manual_seed(compute_step_seed(settings.seed, step, training.world.rank))
        yield batches, waited_s


def _validate(training: Training) -> None:
    """Score the averaged weights, and save them if they are the best so far."""
    state, journal = training.state, training.journal
    scores = training.validator.run(journal.watch("validating"))
    best = state.best_scores.miou if state.best_scores else None
    is_best = best is None or (scores.miou is not None and scores.miou > best)
    if is_best:
        state.best_step, state.best_scores = state.step, scores
        if training.world.is_writer:
            save_model(training.run.model, training.averaged.network, build_card(training, scores))
    journal.log(describe_validation(state.step, training.plan.total_steps, scores, is_best=is_best))
    epoch = round(state.step / training.plan.steps_per_epoch, 3)
    journal.add_row(
        {
            "step": state.step,
            "epoch": epoch,
            "seconds": round(training.count_seconds(), 1),
            "lr": training.step.optimizer.param_groups[0]["lr"],
            "loss": sum(state.losses) / len(state.losses),
            "miou": scores.miou,
            "pixel_accuracy": scores.pixel_accuracy,
            "never_predicted": ", ".join(scores.never_predicted),
            "extended_at": training.plan.find_extension(state.step),
        }
    )
    state.losses = ()
    names = training.splits.train.label_space.names
    state.missed = count_missed(state.missed, names, scores.never_predicted)
    for index in [index for index, count in enumerate(state.missed) if count == MISSED_VALIDATIONS]:
        journal.log(diagnose_class(names[index], index, training.statistics, training.config.training, journal.rows))
    if journal.trackers:
        examples = training.validator.draw_examples()
        journal.trackers.log_validation(list_validation_values(scores, epoch), examples, state.step)


def _save(training: Training) -> None:
    """Write a checkpoint of the state after the last step."""
    if not training.world.is_writer:
        return
    checkpoint = Checkpoint(
        step=training.state.step,
        network=training.network.state_dict(),
        averaged=training.averaged.network.state_dict(),
        optimizer=training.step.optimizer.state_dict(),
        record={
            "plan": training.plan.to_json(),
            "train_state": training.state.to_json() | {"spent_s": training.count_seconds()},
            "rows": training.journal.rows,
            "trackers": training.journal.trackers.run_ids,
            "data": training.fingerprint,
            "convolutions": describe_convolutions(training.convolutions, training.step.fabric.device),
            "settings": dict(training.settings),
        },
    )
    save_checkpoint(training.run.checkpoint, checkpoint)


def _show(training: Training, loss: float) -> None:
    step, lr = training.state.step, training.step.optimizer.param_groups[0]["lr"]
    training.journal.show("training", step, training.plan.total_steps, f"loss {loss:.3f}, lr {lr:.2g}")
    training.journal.trackers.log_values({"train/loss": loss, "train/lr": lr}, step)


def describe_validation(step: int, total: int, scores: Scores, *, is_best: bool) -> str:
    """Summarise a validation in one line.

    Args:
        step: Steps done.
        total: Steps of the training.
        scores: What the validation found.
        is_best: Whether it is the best so far.
    """
    miou = "-" if scores.miou is None else f"{scores.miou:.3f}"
    baseline = "-" if scores.baseline_miou is None else f"{scores.baseline_miou:.3f}"
    words = f"step {step:,} of {total:,}: mIoU {miou} (always {scores.baseline_class}: {baseline})"
    if scores.never_predicted:
        words += f", never predicted: {', '.join(scores.never_predicted)}"
    return words + (", best so far" if is_best else "")
