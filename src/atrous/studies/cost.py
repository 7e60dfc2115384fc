"""Cost of a row: operations, counted without computing them, and the duration of a training step, timed once."""

from __future__ import annotations

import time

import torch
from torch._subclasses import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from atrous.config.schema import Config
from atrous.networks.build import build_network
from atrous.networks.segmenter import Segmenter
from atrous.training.fabric import build_fabric

TIMED_IMAGES = 4
"""Enough for the batch norm of image-level features, which sees one value per image and channel."""


def count_flops(network: Segmenter, size: int, *, scales: tuple[float, ...] = (1.0,), flip: bool = False) -> int:
    """Count the floating-point operations of labelling one square image; a multiply-add counts as two.

    Args:
        network: In evaluation mode, at the output stride to count.
        size: Side of the image in pixels.
        scales: Relative sizes of the image at which the network is applied.
        flip: Whether the network is also applied to each flipped copy.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter, torch.no_grad():
        for scale in scales:
            side = round((size - 1) * scale) + 1
            network.forward_cells(torch.zeros(1, 3, side, side))
    return int(counter.get_total_flops()) * (2 if flip else 1)


def time_step(config: Config, num_classes: int) -> float:
    """Estimate the duration of a training step from one timed forward and backward pass in the training's precision.

    Data loading and the optimiser step are not included.

    Args:
        config: Configuration of the training.
        num_classes: Number of classes of its data.
    Returns: Seconds.
    """
    training, fabric = config.training, build_fabric(config)
    network = build_network(config.model, num_classes).train().to(memory_format=torch.channels_last)
    trained = fabric.setup(network)
    images = torch.rand(TIMED_IMAGES, 3, training.crop, training.crop, device=fabric.device)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.zeros(TIMED_IMAGES, training.crop, training.crop, dtype=torch.int64, device=fabric.device)
    seconds = 0.0
    for _ in range(2):  # the first warms up
        begun = time.perf_counter()
        fabric.backward(F.cross_entropy(trained(images), labels))
        if fabric.device.type == "cuda":
            torch.cuda.synchronize(fabric.device)
        seconds = time.perf_counter() - begun
    return seconds * training.batch_size * training.accumulate / TIMED_IMAGES
