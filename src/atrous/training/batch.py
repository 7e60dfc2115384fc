"""The batch of a training that is left open: as many images as the memory of the device holds with ease."""

from __future__ import annotations

import torch
from lightning.fabric import Fabric

from atrous.config.schema import Config
from atrous.core.errors import ConfigError
from atrous.core.records import Note
from atrous.core.words import describe_count
from atrous.data.contracts import SegmentationDataset
from atrous.data.input_statistics import measure_input
from atrous.data.samples import find_form
from atrous.networks.segmenter import Segmenter
from atrous.training.crop import build_trainable
from atrous.training.fabric import build_fabric
from atrous.training.memory import MOST_CHOSEN, choose_batch


def settle_batch(config: Config, train: SegmentationDataset, processes: int = 1) -> tuple[Config, Note | None]:
    """Return settings whose batch is a number, and what has to be said of it.

    Args:
        config: All settings, with the crop of the training.
        train: The data to train on.
        processes: How many share a batch, in equal parts.
    """
    if config.training.batch != "auto":
        return config, None
    network, fabric = build_on_device(config, train)
    batch = max(choose_batch(network, config.training, fabric) // processes, 1) * processes
    reason = "the most that is chosen" if batch == MOST_CHOSEN else f"what fits in the memory of {fabric.device}"
    crop = f"crop {config.training.crop}"
    return set_batch(config, batch), Note(
        "batch-chosen", f"batch of {describe_count(batch, 'image')}, {crop}: {reason}"
    )


def require_parts(config: Config, processes: int) -> None:
    """Refuse a batch that several processes cannot share in equal parts, and what they cannot do together.

    Args:
        config: All settings of a training.
        processes: How many train together.
    Raises:
        ConfigError: The batch is no multiple of the processes, or the network is to be compiled.
    """
    training = config.training
    if processes > 1 and training.compile and training.norm == "trained":
        raise ConfigError(
            "training.compile: a compiled step cannot compute batch norms over several processes",
            "Switch training.compile off, or set training.norm to frozen.",
        )
    if training.batch != "auto" and training.batch % processes:
        lower = training.batch // processes * processes
        raise ConfigError(
            f"training.batch: {training.batch} cannot be shared by {describe_count(processes, 'process')} "
            "in equal parts",
            f"Use `batch={lower or processes}`, or another number of processes.",
        )


def set_batch(config: Config, batch: int) -> Config:
    """Return settings with another batch.

    Args:
        config: All settings.
        batch: Images in a forward pass.
    """
    return config.model_copy(update={"training": config.training.model_copy(update={"batch": batch})})


def build_on_device(config: Config, train: SegmentationDataset) -> tuple[Segmenter, Fabric]:
    """Build the network of a training on its device, to measure it; the caller's random numbers stay as they are.

    Args:
        config: All settings.
        train: The data to train on.
    Raises:
        MachineError: The device is missing.
    """
    fabric = build_fabric(config)
    with torch.random.fork_rng(devices=()):
        spec = None if find_form(train).is_photo else measure_input(train, config.training.seed)
        network = build_trainable(config, train.label_space.num_classes, spec)
    return network.to(fabric.device), fabric
