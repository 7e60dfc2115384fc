"""The batch of a training that is left open: as many images as the memory of the device holds with ease."""

from __future__ import annotations

import torch
from lightning.fabric import Fabric

from atrous.config.schema import Config
from atrous.core.records import Note
from atrous.core.words import describe_count
from atrous.data.contracts import SegmentationDataset
from atrous.data.input_statistics import measure_input
from atrous.data.samples import find_form
from atrous.networks.segmenter import Segmenter
from atrous.training.crop import build_trainable
from atrous.training.memory import MOST_CHOSEN, choose_batch
from atrous.training.prepare import build_fabric


def settle_batch(config: Config, train: SegmentationDataset) -> tuple[Config, Note | None]:
    """Return settings whose batch is a number, and what has to be said of it.

    Args:
        config: All settings, with the crop of the training.
        train: The data to train on.
    """
    if config.training.batch != "auto":
        return config, None
    network, fabric = build_on_device(config, train)
    batch = choose_batch(network, config.training, fabric)
    reason = "the most that is chosen" if batch == MOST_CHOSEN else f"what fits in the memory of {fabric.device}"
    crop = f"crop {config.training.crop}"
    return set_batch(config, batch), Note(
        "batch-chosen", f"batch of {describe_count(batch, 'image')}, {crop}: {reason}"
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
