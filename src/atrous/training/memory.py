"""The memory that a training step needs, worked out from small crops before the first step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch
from lightning.fabric import Fabric
from torch import Tensor

from atrous.config.schema import TrainingConfig
from atrous.core.errors import MachineError
from atrous.core.words import describe_count
from atrous.networks.device import compute_device_bytes
from atrous.networks.layers.recomputation import pack, recomputing
from atrous.networks.segmenter import Segmenter
from atrous.training.world import World

PROBE_SIDES_PX = (33, 65, 129)
"""Crops that are tried. Bytes are a polynomial of degree two in the side of a crop, which three values determine."""
COPIES = 4
"""Tensors of the size of a weight, at least: the weight, its gradient, a mean of its gradients, and its average."""
SAMPLE_BYTES = 11
"""Bytes of a pixel in a batch: three of the image, eight of its label."""
CHOSEN_SHARE = 0.5
"""Share of the memory that a chosen batch may need: what is counted is less than what a step takes."""
MOST_CHOSEN = 16
"""Largest batch that is chosen: the paper's."""


def require_memory(network: Segmenter, training: TrainingConfig, fabric: Fabric, world: World) -> None:
    """Refuse a crop and a batch whose step needs more than all the memory of the device.

    What is counted is what a step cannot do without, so that nothing is refused that fits: the feature maps that are
    kept for the backward pass, the weights with their copies, and the batch.

    Args:
        network: The network that learns; it stays as it is.
        training: Crop and batch.
        fabric: Device and precision.
        world: The processes that share a batch, each on a device of its own, or on the CPU of a machine all of them.
    Raises:
        MachineError: It does not fit; the message names what would.
    """
    fixed, count_bytes = _measure_step(network, training, fabric)
    sharers = world.local_size if fabric.device.type == "cpu" else 1
    available = compute_device_bytes(fabric.device)
    needed = sharers * (fixed + training.batch_size // world.size * count_bytes(training.crop))
    if needed <= available:
        return
    room = available / sharers - fixed
    batch = int(room / count_bytes(training.crop)) * world.size
    crop = next((n for n in range(training.crop, 0, -32) if count_bytes(n) <= room), 1)
    of_all = f" of {describe_count(sharers, 'process')}" if sharers > 1 else ""
    raise MachineError(
        f"training.crop {training.crop} with training.batch {training.batch} takes more than {needed / 2**30:,.0f} GiB "
        f"of memory in a step{of_all}, and {fabric.device} has {available / 2**30:,.0f} GiB",
        f"Use at most `batch={batch}`; training.accumulate adds up several batches in a step."
        if batch >= 1
        else f"Use at most `crop={crop}` with `batch={world.size}`, or a smaller `model`.",
    )


def choose_batch(network: Segmenter, training: TrainingConfig, fabric: Fabric) -> int:
    """Return how many images a forward pass of a training has if the user leaves it open.

    Args:
        network: The network that learns; it stays as it is.
        training: The crop.
        fabric: Device and precision.
    Returns: 1 to `MOST_CHOSEN`.
    """
    fixed, count_bytes = _measure_step(network, training, fabric)
    room = CHOSEN_SHARE * compute_device_bytes(fabric.device) - fixed
    return min(max(int(room / count_bytes(training.crop)), 1), MOST_CHOSEN)


def _measure_step(network: Segmenter, training: TrainingConfig, fabric: Fabric) -> tuple[int, Callable[[int], float]]:
    """Return the bytes that a step needs for the weights, and those for an image, by the side of its crop."""
    fixed = COPIES * sum(parameter.nbytes for parameter in network.parameters())
    probes = [measure_kept_bytes(network, side, training, fabric) for side in PROBE_SIDES_PX]
    coefficients = np.polyfit(PROBE_SIDES_PX, probes, len(PROBE_SIDES_PX) - 1)

    def count_bytes(crop: int) -> float:
        return float(np.polyval(coefficients, crop)) + SAMPLE_BYTES * crop**2

    return fixed, count_bytes


def measure_kept_bytes(network: Segmenter, side: int, training: TrainingConfig, fabric: Fabric) -> float:
    """Return the bytes of the maps that a forward pass over one crop keeps for the backward pass.

    Args:
        network: The network that learns; it stays as it is.
        side: Side of the crop in pixels.
        training: Whether maps are computed again in the backward pass.
        fabric: Device and precision.
    """
    kept: dict[int, int] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}

    def keep(tensor: Tensor) -> object:
        packed = pack(tensor) if is_lean else tensor
        storage = packed.untyped_storage() if isinstance(packed, Tensor) else None
        if storage is not None and storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return packed

    image = network.make_blank(1, side, side).to(fabric.device)
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    is_lean = training.lean == "auto" and fabric.device.type == "cpu"
    devices = [fabric.device] if fabric.device.type == "cuda" else []  # whose random numbers dropout draws
    with (
        torch.random.fork_rng(devices),
        recomputing() if is_lean else nullcontext(),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda packed: packed),  # no backward pass asks for them
        fabric.autocast(),
    ):
        cells = network.forward_cells(image.contiguous(memory_format=torch.channels_last))
    total = sum(kept.values())  # while the maps are alive, so that no two of them had one address
    del cells
    for name, buffer in network.named_buffers():
        buffer.copy_(buffers[name])
    return total
