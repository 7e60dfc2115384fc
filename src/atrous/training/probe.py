"""A short training on a few crops that are also what is scored: whether they can be learned at all."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from atrous.config.schema import Config, EvaluationConfig, TrainingConfig
from atrous.core.freed_memory import keeping_freed_memory
from atrous.core.records import ProgressCallback, Scores
from atrous.core.run_folder import RunFolder
from atrous.data.contracts import Splits
from atrous.data.excerpts import Excerpts
from atrous.training.batch import set_batch
from atrous.training.crop import build_trainable, find_smallest_crop
from atrous.training.journal import Journal
from atrous.training.loop import iter_steps
from atrous.training.optimizers import choose_rates
from atrous.training.prepare import prepare_training
from atrous.training.torch_state import restored_torch_state
from atrous.training.world import World

STEPS = 40
CROP_PX = 257
"""Side of the crops in pixels; larger where the rates of the network need more, smaller where the training's is."""


@dataclass(frozen=True)
class Learned:
    """What a short training made of its crops.

    Args:
        losses: The loss of each step.
        before: Scores on the crops before the first step.
        after: Scores on them after the last one.
        predictions: Class indices of each crop after the last step, (H, W).
    """

    losses: tuple[float, ...]
    before: Scores
    after: Scores
    predictions: tuple[np.ndarray, ...]


def choose_probe_crop(config: Config, num_classes: int) -> int:
    """Return the side of the crops in pixels.

    Args:
        config: All settings.
        num_classes: Scored classes.
    Raises:
        ConfigError: The crop of the training is too small for the rates of the network.
    """
    with torch.device("meta"):  # no memory and no random numbers
        network = build_trainable(config, num_classes)
    return min(config.training.crop, max(CROP_PX, find_smallest_crop(network)))


def learn_excerpts(config: Config, excerpts: Excerpts, crop: int, progress: ProgressCallback | None = None) -> Learned:
    """Train on some crops as they are, and score the network on the same ones; nothing is written.

    Args:
        config: All settings.
        excerpts: The crops.
        crop: Their side in pixels; an excerpt of a smaller image is smaller.
        progress: Receives the progress.
    Raises:
        ConfigError: See `prepare_training`.
        TrainingDiverged: A loss, a gradient or an output is not finite.
    """
    with keeping_freed_memory(), restored_torch_state(deterministic=config.training.deterministic):
        training = prepare_training(
            _shorten(config, crop),
            Splits(excerpts, excerpts, layout="crops in memory"),
            excerpts.compute_statistics(),
            Journal(RunFolder(Path()), is_writer=False, progress=progress),
            settings={},
            world=World.alone(),
            started=time.monotonic(),
        )
        before = training.validator.run()
        losses: list[float] = []
        with closing(iter_steps(training)) as steps:
            for number, (batches, _) in enumerate(steps, start=1):
                losses.append(training.step.take(batches, number))
                training.journal.show("probing", number, STEPS, f"loss {losses[-1]:.3f}")
        training.averaged.update(training.network, STEPS)
        after = training.validator.run()
        label = training.validator.labeller.label_image
        predictions = tuple(label(sample.image, confidence=False)[0] for sample in excerpts.samples)
    return Learned(tuple(losses), before, after, predictions)


def _shorten(config: Config, crop: int) -> Config:
    """Return the settings of a training that learns crops by heart: without augmentation, at the training's own rates.

    Classes are weighed, where the settings say nothing else, so that the rare ones are learned in as few steps.
    """
    if config.training.batch == "auto":
        config = set_batch(config, TrainingConfig().batch_size)
    training = config.training
    rates = choose_rates(training, config.model.weights)
    changes = {
        "epochs": None,
        "iterations": STEPS,
        "max_minutes": None,
        "extended": (),
        "validations": 1,
        "patience": None,
        "batch": 2,
        "crop": crop,
        "accumulate": 1,
        "lr": rates.backbone,
        "head_lr_factor": rates.heads / rates.backbone,
        "scale_range": (1.0, 1.0),
        "flip": False,
        "flip_vertical": False,
        "quarter_turns": False,
        "rotation": 0.0,
        "jitter": 0.0,
        "class_weights": "auto" if training.class_weights == "none" else training.class_weights,
        "hard_classes": "none",
        "rare_crops": 0.0,
        "ema_decay": 0.0,
        "compile": False,
    }
    return config.model_copy(
        update={
            "training": training.model_copy(update=changes),
            "evaluation": EvaluationConfig(),
            "output": config.output.model_copy(update={"workers": 0, "cache_mib": 0, "logger": ()}),
        }
    )
