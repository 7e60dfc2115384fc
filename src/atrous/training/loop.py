"""The training loop: plan, steps, validation, checkpoints; the whole story on one screen, its parts below."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from atrous.config.load import dump_config
from atrous.config.schema import Config
from atrous.core.errors import DataError, TrainingDiverged
from atrous.core.files import save_json
from atrous.core.provenance import collect_provenance, collect_versions
from atrous.core.records import MessageCallback, ProgressCallback, Scores
from atrous.data.build import build_loader, compute_fingerprint, list_pass
from atrous.data.contracts import Splits
from atrous.data.sampling import Batch
from atrous.data.statistics import MaskStatistics
from atrous.networks.contracts import AtrousPlan, count_cells
from atrous.networks.model_file import MODEL_FILE_NAME, ModelCard, load_model, save_model
from atrous.networks.segmenter import Segmenter
from atrous.networks.weights import start_weights
from atrous.training.checkpoint import LAST_NAME, Checkpoint, TrainState, save_checkpoint
from atrous.training.ema import AveragedNetwork
from atrous.training.interruption import StopRequest
from atrous.training.journal import Journal
from atrous.training.norm import freeze_norms, set_norm_momentum, start_training
from atrous.training.optimizers import build_optimizer, set_lr_factor
from atrous.training.plan import Plan, Timing, build_plan
from atrous.training.prepare import build_fabric, build_task, build_trainable, choose_workers
from atrous.training.schedules import compute_poly
from atrous.training.validation import Validator
from atrous.training.waiting import REPORTED_STEPS, DataWait

CHECKPOINT_S = 120.0
"""Seconds between checkpoints, besides those at validations and stops: what a power cut costs at most."""
WARM_UP_STEPS, TIMED_STEPS = 2, 4


class Fit:
    """One run, from a checked configuration to a folder with a scored model.

    `stopped` says after `run` whether a signal asked to stop, be it at the last step.

    Args:
        config: All settings.
        splits: The data.
        statistics: What the training masks hold.
        folder: The run's folder, made by the caller.
        started: `time.monotonic()` at the start of the command, from which minutes are counted.
        checkpoint: Where to go on, or None for a new run.
        on_message: Receives messages about automatic choices and findings.
        progress: Receives the progress.
    Raises:
        ConfigError: A crop on which a rate has no cell, minutes that do not suffice, an option that the loss does not
            have, another number of class weights than classes, or a hard class that is none of them.
        DataError: The checkpoint was made with other data.
        MachineError: The device is not there, or a run that is to be compiled cannot be.
    """

    def __init__(
        self,
        config: Config,
        splits: Splits,
        statistics: MaskStatistics,
        folder: Path,
        *,
        started: float,
        checkpoint: Checkpoint | None = None,
        on_message: MessageCallback | None = None,
        progress: ProgressCallback | None = None,
    ) -> None:
        self.config, self.splits, self.statistics, self.folder = config, splits, statistics, folder
        self.started = started
        self.stopped = False
        self.fingerprint = compute_fingerprint(splits, statistics)
        record: dict[str, Any] = checkpoint.record if checkpoint else {"data": self.fingerprint}
        if record["data"] != self.fingerprint:
            raise DataError(
                f"{folder}: the run began with other data: files, classes or masks have changed",
                "Give it the data that it began with, or start a new run.",
            )
        rows = record.get("rows", [])
        self.one_pass = list_pass(config.training, splits.train.label_space, statistics)
        self.journal = Journal(folder, config.output.logger, on_message=on_message, progress=progress, rows=rows)
        self.fabric = build_fabric(config)
        torch.manual_seed(config.training.seed)
        network = self._build_network(with_weights=checkpoint is None)
        self.averaged = AveragedNetwork(network, config.training.ema_decay)
        self.validator = Validator(
            self.averaged.network,
            splits.val,
            config.evaluation,
            device=str(self.fabric.device),
            on_message=self.journal.log,
        )
        self.journal.log(self.validator.check_memory())
        self.train_state = TrainState.from_json(record["train_state"]) if checkpoint else TrainState()
        optimizer = build_optimizer(network, config.training)
        task = build_task(config.training, network, splits.train.label_space.names, statistics, self.journal.log)
        self.task, self.optimizer = self.fabric.setup(task, optimizer)
        self.network = network
        self.workers = choose_workers(config.output.workers, self.fabric.device)
        self.wait = DataWait(self.workers)
        if checkpoint:
            self._restore(checkpoint)
        self.plan = Plan.from_json(record["plan"]) if checkpoint else self._make_plan()

    def run(self) -> bool:
        """Train to the end or to an interruption; returns whether it was interrupted."""
        saved = time.monotonic()
        reported = min(REPORTED_STEPS, self.plan.total_steps - self.train_state.step)
        with StopRequest() as stop:
            if self.train_state.step == 0:
                self._save()  # from here on the run can be resumed, whatever ends it
            for batches, waited_s in self._iter_steps():
                begun = time.monotonic()
                loss = self._take_step(batches)
                train_state = self.train_state
                self.averaged.update(self.network, train_state.step)
                train_state.step += 1
                train_state.losses += (loss,)
                self.wait.add(waited_s, time.monotonic() - begun)
                if self.wait.steps == reported:
                    self.journal.log(self.wait.describe())
                self._show(loss)
                due = train_state.step in self.plan.validation_steps
                if due:
                    self._validate()
                if due or stop.requested or time.monotonic() - saved > CHECKPOINT_S:
                    self._save()
                    saved = time.monotonic()
                if stop.requested:
                    break
            self.stopped = stop.requested
        return self.train_state.step < self.plan.total_steps

    def _iter_steps(self) -> Iterator[tuple[list[Batch], float]]:
        """Yield the batches of each remaining step with the seconds waited for them; set learning rate and dropout."""
        training = self.config.training
        start, total = self.train_state.step, self.plan.total_steps
        per_step = self.plan.samples_per_step
        loader = build_loader(
            self.splits.train,
            training,
            self.one_pass,
            start_place=start * per_step,
            num_places=(total - start) * per_step,
            workers=self.workers,
        )
        warmup = round(training.warmup_fraction * total)
        for step in range(start, total):
            begun = time.monotonic()
            batches = [next(loader) for _ in range(training.accumulate)]
            waited_s = time.monotonic() - begun
            set_lr_factor(self.optimizer, compute_poly(step, total, power=training.power, warmup_steps=warmup))
            torch.manual_seed(training.seed * 1_000_003 + step)  # dropout too is a function of (seed, step)
            yield batches, waited_s

    def _take_step(self, batches: list[Batch]) -> float:
        """Make one optimiser step and return its loss.

        Raises:
            TrainingDiverged: The loss or its gradient is not finite; the message names the images.
        """
        training = self.config.training
        start_training(self.network, frozen_norms=training.norm == "frozen")
        moved = [self.fabric.to_device((batch.images, batch.labels)) for batch in batches]
        weight = torch.stack([self.task.count_weight(labels) for _, labels in moved]).sum()
        loss = 0.0
        for images, labels in moved:
            share = self.task(images.contiguous(memory_format=torch.channels_last), labels, weight)
            self.fabric.backward(share)
            loss += share.item()
        limit = training.clip_norm or math.inf
        parameters = [p for p in self.network.parameters() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit).item()
        if not math.isfinite(loss + norm):
            keys = ", ".join(key for batch in batches for key in batch.keys)
            raise TrainingDiverged(
                f"step {self.train_state.step + 1} has loss {loss} and gradient norm {norm} (images {keys})",
                "Lower --lr or training.clip_norm, or train with --precision fp32; "
                f"{self.folder / LAST_NAME} holds the last good state.",
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def _validate(self) -> None:
        """Score the averaged weights, and keep them if they are the best so far."""
        train_state = self.train_state
        scores = self.validator.run(self.journal.watch("validating"))
        best = train_state.best_scores.miou if train_state.best_scores else None
        is_best = best is None or (scores.miou is not None and scores.miou > best)
        if is_best:
            train_state.best_step, train_state.best_scores = train_state.step, scores
            save_model(self.folder / MODEL_FILE_NAME, self.averaged.network, self._write_card(scores))
        self.journal.log(describe_validation(train_state.step, self.plan.total_steps, scores, is_best=is_best))
        self.journal.add_row(
            {
                "step": train_state.step,
                "epoch": round(train_state.step / self.plan.steps_per_epoch, 3),
                "seconds": round(self._count_seconds(), 1),
                "lr": self.optimizer.param_groups[0]["lr"],
                "loss": sum(train_state.losses) / len(train_state.losses),
                "miou": scores.miou,
                "pixel_accuracy": scores.pixel_accuracy,
                "never_predicted": ", ".join(scores.never_predicted),
            }
        )
        train_state.losses = ()

    def finish(self, *, interrupted: bool) -> dict[str, Any]:
        """Write metrics.json with the best weights' scores, examples, plan, versions; returns what was written."""
        train_state = self.train_state
        model_path = self.folder / MODEL_FILE_NAME
        if train_state.best_scores is None:
            save_model(model_path, self.averaged.network, self._write_card(None))
        else:
            best, _ = load_model(model_path)
            self.averaged.network.load_state_dict(best.state_dict())
        examples = []
        if train_state.best_scores is not None:
            notes = [*train_state.best_scores.notes, *self.validator.compare_pooling(train_state.best_scores)]
            # Who interrupts a run does not wait for another pass over the data.
            miou = None if interrupted else self.validator.score_bf16(train_state.best_scores)
            if miou is not None:
                notes.append(f"in bf16 the mIoU is {miou:.4f}")
                card = replace(self._write_card(train_state.best_scores), score_bf16=miou)
                save_model(model_path, self.averaged.network, card)
            train_state.best_scores = replace(train_state.best_scores, notes=tuple(notes))
            examples = self.validator.save_examples(self.folder, train_state.best_scores)
        training = {
            "data": f"{self.splits.train.name}, {len(self.splits.train)} images",
            "steps": train_state.step,
            "planned_steps": self.plan.total_steps,
            "epochs": round(train_state.step / self.plan.steps_per_epoch, 2),
            "seconds": round(self._count_seconds(), 1),
            "data_wait_fraction": self.wait.share,
            "seed": self.config.training.seed,
            "precision": str(self.fabric.strategy.precision.precision),
            "best_step": train_state.best_step,
            "parameters": sum(p.numel() for p in self.network.parameters()),
            "interrupted": interrupted,
        }
        metrics = {
            "miou": None,
            "classes": [],
            "protocol": None,
            **(train_state.best_scores.to_json() if train_state.best_scores else {}),
            "ladder": [],
            "model": self.config.model.model_dump(mode="json"),
            "label_space": self.splits.val.label_space.to_json(),
            "training": training,
            "data_notes": list(self.splits.notes),
            "data_fingerprint": self.fingerprint,
            "examples": examples,
            **collect_provenance(),
        }
        save_json(self.folder / "metrics.json", metrics)
        self.journal.close("aborted" if interrupted else "success")
        return metrics

    def _build_network(self, *, with_weights: bool) -> Segmenter:
        config, training = self.config, self.config.training
        network = build_trainable(config, self.splits.train.label_space.num_classes)
        if network.backbone.strides == AtrousPlan("not verified"):
            self.journal.log(f"{config.model.name}: its features across output strides are not verified")
        if with_weights:
            for line in start_weights(network, config.model.name, config.model.weights):
                self.journal.log(line)
        set_norm_momentum(network, training.norm_momentum)
        if training.norm == "frozen":
            freeze_norms(network)
        self.journal.log(f"arithmetic: {self.fabric.strategy.precision.precision} on {self.fabric.device}")
        cells = count_cells(training.crop, network.output_stride, aligned=network.aligned)
        self.journal.log(
            f"batch norm: {training.norm}, {training.batch * cells * cells:,} values per norm at the deepest level, "
            f"{training.batch} in the image-level branch"
        )
        return network.to(memory_format=torch.channels_last)

    def _make_plan(self) -> Plan:
        training = self.config.training
        plan = build_plan(
            epochs=training.epochs,
            iterations=training.iterations,
            max_minutes=training.max_minutes,
            validations=training.validations,
            num_train=len(self.one_pass),
            samples_per_step=training.batch * training.accumulate,
            elapsed_s=lambda: time.monotonic() - self.started,
            measure=self._measure,
        )
        if len(self.one_pass) > len(self.splits.train):
            self.journal.log(
                f"images with {', '.join(training.hard_classes)} stand {training.hard_repeats} times in a pass: "
                f"{len(self.one_pass):,} instead of {len(self.splits.train):,} images"
            )
        self.journal.log(
            f"plan: {plan.total_steps:,} steps of {plan.samples_per_step} images "
            f"({plan.total_steps / plan.steps_per_epoch:.1f} epochs), {len(plan.validation_steps)} validations"
        )
        return plan

    def _measure(self) -> Timing:
        """Time a few steps and a validation image, and leave no trace of them."""
        self.journal.show("timing a few steps", 0, None)
        state = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}
        times = []
        loader = build_loader(
            self.splits.train,
            self.config.training,
            self.one_pass,
            start_place=0,
            num_places=(WARM_UP_STEPS + TIMED_STEPS) * self.config.training.batch * self.config.training.accumulate,
            workers=0,
        )
        set_lr_factor(self.optimizer, 0.0)
        for _ in range(WARM_UP_STEPS + TIMED_STEPS):
            begun = time.perf_counter()
            self._take_step([next(loader) for _ in range(self.config.training.accumulate)])
            self.averaged.update(self.network, 0)
            times.append(time.perf_counter() - begun)
        self.network.load_state_dict(state)
        self.averaged.network.load_state_dict(state)
        self.optimizer.state.clear()
        step_s = sum(times[WARM_UP_STEPS:]) / TIMED_STEPS
        timing = Timing(step_s, self.validator.measure_seconds())
        self.journal.log(f"timed: {timing.step_s:.2f} s a step, {timing.validation_s:.0f} s a validation")
        return timing

    def _save(self) -> None:
        train_state = self.train_state.to_json() | {"spent_s": self._count_seconds()}
        checkpoint = Checkpoint(
            step=self.train_state.step,
            network=self.network.state_dict(),
            averaged=self.averaged.network.state_dict(),
            optimizer=self.optimizer.state_dict(),
            record={
                "plan": self.plan.to_json(),
                "train_state": train_state,
                "rows": self.journal.rows,
                "data": self.fingerprint,
            },
        )
        save_checkpoint(self.folder / LAST_NAME, checkpoint)

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.network.load_state_dict(checkpoint.network)
        self.averaged.network.load_state_dict(checkpoint.averaged)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.journal.log(f"resumed after step {checkpoint.step:,}")

    def _write_card(self, scores: Scores | None) -> ModelCard:
        network, input_spec = self.network, self.network.backbone.input_spec
        return ModelCard(
            model=self.config.model.model_dump(mode="json"),
            label_space=self.splits.train.label_space,
            normalisation={"mean": list(input_spec.mean), "std": list(input_spec.std)},
            size_rule=network.size_rule.describe(),
            score=scores.miou if scores else None,
            protocol=scores.protocol.to_json() if scores else None,
            data=self.splits.train.name,
            recipe_sha256=hashlib.sha256(dump_config(self.config).encode()).hexdigest(),
            versions=collect_versions(),
        )

    def _count_seconds(self) -> float:
        return self.train_state.spent_s + time.monotonic() - self.started

    def _show(self, loss: float) -> None:
        step, total = self.train_state.step, self.plan.total_steps
        lr = self.optimizer.param_groups[0]["lr"]
        self.journal.show("training", step, total, f"loss {loss:.3f}, lr {lr:.4f}")
        self.journal.track({"train/loss": loss, "train/lr": lr}, step)


def describe_validation(step: int, total: int, scores: Scores, *, is_best: bool) -> str:
    """Say what a validation found, in one line."""
    miou = "-" if scores.miou is None else f"{scores.miou:.3f}"
    baseline = "-" if scores.baseline_miou is None else f"{scores.baseline_miou:.3f}"
    words = f"step {step:,} of {total:,}: mIoU {miou} (always {scores.baseline_class}: {baseline})"
    if scores.never_predicted:
        words += f", never predicted: {', '.join(scores.never_predicted)}"
    return words + (", best so far" if is_best else "")
