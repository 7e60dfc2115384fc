"""From settings and data to the parts of a training, ready for its first step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning.fabric import Fabric

from atrous.config.schema import Config, TrainingConfig
from atrous.core.errors import ConfigError, DataError
from atrous.core.inputs import InputSpec
from atrous.core.machine import compute_cache_bytes
from atrous.core.records import MessageCallback, Note
from atrous.core.run_folder import RunFolder
from atrous.core.spinning import describe_spinning
from atrous.core.words import describe_count
from atrous.data.build import build_loader, compute_fingerprint, list_pass
from atrous.data.contracts import Splits
from atrous.data.input_statistics import describe_input, measure_input
from atrous.data.rare import plan_rare_crops
from atrous.data.samples import find_form, find_window, read_sample
from atrous.data.sampling import Batch
from atrous.data.statistics import MaskStatistics, compute_class_weights
from atrous.inference.convolutions import ConvolutionWays, describe_convolutions, list_convolutions
from atrous.inference.precision import describe_slow_precision
from atrous.losses.build import build_loss
from atrous.networks.contracts import AtrousPlan, count_cells
from atrous.networks.layers.lean import set_lean
from atrous.networks.segmenter import Segmenter
from atrous.networks.weights import start_weights
from atrous.training.checkpoint import Checkpoint, TrainState, explain_damage
from atrous.training.compilation import compile_cells
from atrous.training.crop import build_trainable, describe_taps
from atrous.training.ema import AveragedNetwork
from atrous.training.fabric import build_fabric, choose_precision
from atrous.training.journal import Journal
from atrous.training.memory import require_memory
from atrous.training.norm import describe_few_values, freeze_norms, set_norm_momentum, start_training
from atrous.training.optimizers import build_optimizer, describe_rates
from atrous.training.plan import Plan, Timing, build_plan
from atrous.training.schedules import describe_extensions
from atrous.training.step import Step
from atrous.training.task import TrainingTask
from atrous.training.terms import describe_terms, list_terms
from atrous.training.timing import TIMED_STEPS, WARM_UP_STEPS, measure_timing
from atrous.training.validation import Validator
from atrous.training.waiting import DataWait
from atrous.training.workers import choose_workers, count_batch_bytes
from atrous.training.world import World


@dataclass(frozen=True)
class Training:
    """The parts of a training.

    Args:
        config: All settings.
        settings: Those that a resumed run has to keep, as JSON, of the run as a whole.
        splits: The data.
        fingerprint: Hash of the data, see `compute_fingerprint`.
        statistics: What the training masks hold.
        one_pass: Images of a pass over the training data by index, (n,) int64.
        run: The run's folder.
        world: The processes that train together.
        journal: Where messages, progress and the curve go.
        terms: Terms of use that the model keeps, see `list_terms`.
        network: The network that learns.
        averaged: Its averaged weights, which are validated and saved.
        step: What an optimiser step works on.
        validator: What scores the averaged network.
        plan: Length of the training.
        state: Where the training stands; changes with every step.
        workers: Processes that read images.
        cache_bytes: Memory for decoded images, of all these processes together.
        convolutions: How the atrous convolutions of a step are computed here.
        wait: Seconds that steps waited for images; grows with every step.
        started: `time.monotonic()` at the start of this sitting.
    """

    config: Config
    settings: Mapping[str, Any]
    splits: Splits
    fingerprint: str
    statistics: MaskStatistics
    one_pass: np.ndarray
    run: RunFolder
    world: World
    journal: Journal
    terms: tuple[str, ...]
    network: Segmenter
    averaged: AveragedNetwork
    step: Step
    validator: Validator
    plan: Plan
    state: TrainState
    workers: int
    cache_bytes: int
    convolutions: tuple[ConvolutionWays, ...]
    wait: DataWait
    started: float

    @property
    def counts_classes(self) -> bool:
        """Whether the pixels of each class in the crops are counted: where settings give classes more of them."""
        return self.config.training.rare_crops > 0 or self.config.training.hard_classes != "none"

    @property
    def is_done(self) -> bool:
        """Whether no step is left, or the last `patience` validations were not better than one before."""
        return self.state.step >= self.plan.total_steps or self.has_lost_patience

    @property
    def has_lost_patience(self) -> bool:
        """Whether the last `patience` validations were not better than one before; an extension counts from its start.

        A function of the validations so far, so that a resumed run stops where it would have stopped.
        """
        patience, best_step = self.config.training.patience, self.state.best_step
        if patience is None or best_step is None:
            return False
        since = max(best_step, self.plan.find_extension(self.state.step + 1) or 0)
        return sum(float(row["step"] or 0) > since for row in self.journal.rows) >= patience

    def count_seconds(self) -> float:
        """Return the seconds spent on this training in all its sittings."""
        return self.state.spent_s + time.monotonic() - self.started


def prepare_training(
    config: Config,
    splits: Splits,
    statistics: MaskStatistics,
    journal: Journal,
    *,
    settings: Mapping[str, Any],
    world: World,
    started: float,
    checkpoint: Checkpoint | None = None,
) -> Training:
    """Build the parts of a training and fix its length.

    Args:
        config: All settings.
        splits: The data.
        statistics: Pixels of each class in the training masks.
        journal: The journal of the run's folder.
        settings: What a resumed run has to keep, as JSON; it is stored in checkpoints.
        world: The processes that train together.
        started: `time.monotonic()` at the start of the command; minutes are counted from it.
        checkpoint: Where to continue; None for a new training.
    Raises:
        ConfigError: A crop on which a rate reaches no cell, too few minutes, an option that the loss does not have, a
            wrong number of class weights, or an unknown hard class.
        DataError: The checkpoint was made with other data.
        MachineError: The device is missing or does not hold a step, or the run is to be compiled and cannot be.
    """
    training, space = config.training, splits.train.label_space
    fingerprint = compute_fingerprint(splits, statistics)
    if checkpoint and checkpoint.record["data"] != fingerprint:
        raise DataError(
            f"Cannot resume {journal.run.path}: its data have changed (images, masks or classes)",
            "Restore the data that the run began with, or start a new run.",
        )
    one_pass = list_pass(training, space, statistics)
    fabric = build_fabric(config, world)
    torch.manual_seed(training.seed)
    network = _build_network(config, splits, fabric, world, journal, with_weights=checkpoint is None)
    terms = list_terms(config, journal.run)
    for note in describe_terms(terms):
        journal.log(note)
    averaged = AveragedNetwork(network, training.ema_decay)
    validator = Validator(
        averaged.network, splits.val, config.evaluation, device=str(fabric.device), world=world, on_message=journal.log
    )
    if world.is_writer:
        journal.log(validator.describe_memory())
    journal.log(f"optimizer: {describe_rates(training, config.model.weights)}")
    task = build_task(training, network, space.names, statistics, journal.log)
    optimizer = build_optimizer(network, training, config.model.weights)
    step = Step(training, world, fabric, network, *fabric.setup(task, optimizer))
    start_training(network, frozen_norms=training.norm == "frozen")
    require_memory(network, training, fabric, world)
    convolutions = _list_convolutions(config, network, fabric, journal, checkpoint)
    state, plan = _read_state(journal, checkpoint)
    if plan is None or len(training.extended) > len(plan.extended):  # before the weights: it may time steps
        plan = _plan(splits, one_pass, step, averaged, validator, journal, started - state.spent_s, plan)
    if checkpoint:
        _restore_tensors(journal, step, averaged, checkpoint)
    for note in describe_extensions(plan, training, step.optimizer.param_groups[0]["initial_lr"]):
        journal.log(note)
    if rare_crops := plan_rare_crops(training.rare_crops, statistics):
        journal.log(Note("rare-crops", rare_crops.describe(space.names)))
    batch_bytes = count_batch_bytes(training, find_form(splits.train)) // world.size
    workers = choose_workers(config.output.workers, fabric.device, batch_bytes, journal.log, world.local_size)
    cache_bytes = _choose_cache_bytes(config, splits, statistics, workers, world, journal.log)
    return Training(
        config,
        settings,
        splits,
        fingerprint,
        statistics,
        one_pass,
        journal.run,
        world,
        journal,
        terms,
        network,
        averaged,
        step,
        validator,
        plan,
        state,
        workers,
        cache_bytes,
        convolutions,
        DataWait(workers),
        started,
    )


def _read_state(journal: Journal, checkpoint: Checkpoint | None) -> tuple[TrainState, Plan | None]:
    """Return where a run stands, and its plan; of a new run it has none. The journal gets the rows of the run."""
    if checkpoint is None:
        return TrainState(), None
    with explain_damage(journal.run.checkpoint):
        journal.rows = list(checkpoint.record["rows"])
        return TrainState.from_json(checkpoint.record["train_state"]), Plan.from_json(checkpoint.record["plan"])


def _restore_tensors(journal: Journal, step: Step, averaged: AveragedNetwork, checkpoint: Checkpoint) -> None:
    with explain_damage(journal.run.checkpoint):
        step.network.load_state_dict(checkpoint.network)
        averaged.network.load_state_dict(checkpoint.averaged)
        step.optimizer.load_state_dict(checkpoint.optimizer)
    journal.log(f"resumed after step {checkpoint.step:,}")


def _measure_input(splits: Splits, seed: int, journal: Journal) -> InputSpec | None:
    """Return the statistics of images that are no photos, and report them; None for photos."""
    if find_form(splits.train).is_photo:
        return None
    spec = measure_input(splits.train, seed)
    journal.log(Note("input-measured", describe_input(spec)))
    return spec


def _build_network(
    config: Config, splits: Splits, fabric: Fabric, world: World, journal: Journal, *, with_weights: bool
) -> Segmenter:
    training, num_classes = config.training, splits.train.label_space.num_classes
    input_spec = world.share(lambda: _measure_input(splits, training.seed, journal))
    network = build_trainable(config, num_classes, input_spec)
    if network.backbone.strides == AtrousPlan("not verified"):
        message = f"{config.model.name}: its features across output strides are not verified"
        journal.log(Note("strides-not-verified", message))
    if with_weights and world.is_writer:  # which alone downloads them
        classes = splits.train.label_space.names
        for line in start_weights(network, config.model.name, config.model.weights, classes):
            journal.log(line)
    network.load_state_dict(world.share(network.state_dict))
    set_norm_momentum(network, training.norm_momentum)
    if training.norm == "frozen":
        freeze_norms(network)
    journal.log(f"precision: {fabric.strategy.precision.precision} on {fabric.device}")
    slow = describe_slow_precision(training.precision, fabric.device.type)
    if slow is not None:
        journal.log(slow)
    journal.log(describe_spinning())
    cells = count_cells(training.crop, network.output_stride, aligned=network.aligned)
    journal.log(
        f"batch norm: {training.norm}, {training.batch_size * cells * cells:,} values per norm at the deepest level, "
        f"{training.batch_size} in the image-level branch"
    )
    journal.log(describe_taps(cells, network.head.compute_rates(network.output_stride)))
    with torch.device("meta"):  # no memory and no random numbers
        twin = build_trainable(config, num_classes, input_spec)
    for note in describe_few_values(twin, training):
        journal.log(note)
    return network.to(memory_format=torch.channels_last)


def _list_convolutions(
    config: Config, network: Segmenter, fabric: Fabric, journal: Journal, checkpoint: Checkpoint | None
) -> tuple[ConvolutionWays, ...]:
    """Return how the convolutions of a step are computed here, and report it, also if the run began otherwise."""
    size, precision = (config.training.crop, config.training.crop), choose_precision(config, fabric.device)
    found = list_convolutions(network, size, precision=precision, device=fabric.device, is_training=True)
    described = describe_convolutions(found, fabric.device)
    journal.log(described)
    before = None if checkpoint is None else checkpoint.record.get("convolutions")
    if before is not None and before != described:
        message = f"the run began with {before}: from here on its results differ in their rounding"
        journal.log(Note("other-convolutions", message))
    return found


def _plan(
    splits: Splits,
    one_pass: np.ndarray,
    step: Step,
    averaged: AveragedNetwork,
    validator: Validator,
    journal: Journal,
    started: float,
    begun: Plan | None,
) -> Plan:
    training = step.settings

    def measure() -> Timing:
        journal.show("timing a few steps", 0, None)
        timed = WARM_UP_STEPS + TIMED_STEPS
        batches = list(_read_first_steps(splits, step, one_pass, timed, averaged.network.input_spec))
        own = measure_timing(step, averaged, validator, batches)
        timing = step.world.share(lambda: own)  # the steps fit the time of one process: all have to plan the same
        journal.log(f"timed: {timing.step_s:.2f} s per step, {timing.validation_s:.0f} s per validation")
        return timing

    plan = build_plan(
        epochs=training.epochs,
        iterations=training.iterations,
        max_minutes=training.max_minutes,
        validations=training.validations,
        num_train=len(one_pass),
        samples_per_step=training.batch_size * training.accumulate,
        elapsed_s=lambda: step.world.share(lambda: time.monotonic() - started),
        measure=measure,
        extended=training.extended,
        begun=begun,
    )
    if len(one_pass) > len(splits.train):
        reasons = []
        if not isinstance(training.hard_classes, str):
            listed = ", ".join(training.hard_classes)
            reasons.append(f"images with {listed} appear {training.hard_repeats} times per epoch")
        if any(find_window(splits.train, index) for index in range(len(splits.train))):
            crop = f"{training.crop:,} x {training.crop:,}"
            reasons.append(f"a block of a raster appears as often as crops of {crop} pixels fit into it")
        samples = describe_count(len(one_pass), "image")
        message = f"{'; '.join(reasons)}: {samples} per epoch instead of {len(splits.train):,}"
        journal.log(Note("images-repeated", message))
    epochs = plan.total_steps / plan.steps_per_epoch
    share = f": {min(epochs, 1.0):.0%} of the {describe_count(len(splits.train), 'image')} are seen"
    seen = share if epochs < 1.0 else ""
    journal.log(
        f"plan: {describe_count(plan.total_steps, 'step')} of {describe_count(plan.samples_per_step, 'image')} "
        f"({epochs:.1f} epochs{seen}), "
        f"{describe_count(len(plan.validation_steps), 'validation')}"
    )
    return plan


def _read_first_steps(
    splits: Splits, step: Step, one_pass: np.ndarray, steps: int, input_spec: InputSpec
) -> Iterator[list[Batch]]:
    training = step.settings
    num_places = steps * training.batch_size * training.accumulate
    loader = build_loader(
        splits.train,
        training,
        one_pass,
        start_place=0,
        num_places=num_places,
        workers=0,
        input_spec=input_spec,
        part=(step.world.rank, step.world.size),
    )
    for _ in range(steps):
        yield [next(loader) for _ in range(training.accumulate)]


def _choose_cache_bytes(
    config: Config,
    splits: Splits,
    statistics: MaskStatistics,
    workers: int,
    world: World,
    on_message: MessageCallback,
) -> int:
    """Choose the memory for decoded training images in this process, and report it.

    Args:
        config: All settings, which may give the memory.
        splits: The data. Samples of the user's own code are not kept: it may change them, or keep them itself.
        statistics: Pixels of the training images.
        workers: Processes that read images, each of which keeps its own.
        world: The processes that train together, each of which reads all images in the course of time.
        on_message: Receives the message.
    """
    given = config.output.cache_mib
    budget = compute_cache_bytes() // world.local_size if given is None else given * 2**20
    if not budget or not splits.is_repeatable or splits.train.image_path(0) is None:
        return 0
    if all(find_window(splits.train, index) for index in range(len(splits.train))):
        return 0  # of which windows are read, each another one
    sample = read_sample(splits.train, 0)
    pixel_bytes = (sample.image.nbytes + sample.labels.nbytes) / sample.labels.size
    needed = (int(statistics.pixels.sum()) + statistics.ignored_pixels) * pixel_bytes * max(workers, 1)
    size = f"{needed / 2**20:,.0f} MiB"
    on_message(
        f"decoded images are kept in memory: {size}"
        if needed <= budget
        else f"decoded images are kept in memory as far as they fit: {budget / 2**20:,.0f} of {size} (output.cache_mib)"
    )
    return budget


def build_task(
    training: TrainingConfig,
    network: Segmenter,
    names: Sequence[str],
    statistics: MaskStatistics | None,
    on_message: MessageCallback,
) -> TrainingTask:
    """Build the network with its loss as one module.

    Args:
        training: How the network is trained.
        network: The network that learns.
        names: Class names.
        statistics: Pixels of each class in the training masks, for class weights that are auto.
        on_message: Receives messages about automatic choices and findings.
    Raises:
        ConfigError: An unknown loss, an option that the loss does not have, or a wrong number of class weights.
    """
    weights = training.class_weights
    if isinstance(weights, tuple) and len(weights) != len(names):
        raise ConfigError(
            f"training.class_weights: {describe_count(len(weights), 'weight')} "
            f"for {describe_count(len(names), 'class')}",
            f"Give one weight per class, in this order: {', '.join(names)}; or auto.",
        )
    if weights == "auto" and statistics is not None:
        weights = compute_class_weights(statistics.pixels)
        listed = ", ".join(f"{name} {weight:.2f}" for name, weight in zip(names, weights, strict=True))
        on_message(f"class weights (1 / sqrt of the share of pixels, capped): {listed}")
    set_lean(network, training.lean == "auto")
    return TrainingTask(
        network,
        build_loss(training.loss, training.loss_options),
        resolution=training.loss_resolution,
        class_weights=None if isinstance(weights, str) else weights,
        auxiliary_weight=training.auxiliary_weight,
        forward_cells=compile_cells(network) if training.compile else None,
        lean=training.lean == "auto",
    )
