"""Processes that read images for a training: how many, and the shared memory through which they pass on batches."""

from __future__ import annotations

import torch

from atrous.config.schema import TrainingConfig
from atrous.core.errors import MachineError
from atrous.core.inputs import ImageForm
from atrous.core.machine import count_usable_cores, find_shared_bytes
from atrous.core.records import MessageCallback, Note
from atrous.core.words import describe_count

MAX_WORKERS = 8
BATCHES_AHEAD = 2
"""Batches that PyTorch's loader has each worker prepare; one more is in use by the training."""
LABEL_BYTES = 2


def choose_workers(
    workers: int | None, device: torch.device, batch_bytes: int, on_message: MessageCallback, trainings: int = 1
) -> int:
    """Choose the number of processes that read images: none on a CPU, whose cores the training needs itself.

    Args:
        workers: The number that was asked for, or None.
        device: Device of the training.
        batch_bytes: Shared memory of a batch, see `count_batch_bytes`.
        on_message: Receives a note if there is memory for fewer processes than there would be.
        trainings: Processes that train on this machine, each with readers of its own.
    Raises:
        MachineError: There is too little shared memory for the batches of so many processes.
    """
    if workers is None:
        wanted = 0 if device.type == "cpu" else min(count_usable_cores() // trainings, MAX_WORKERS)
    else:
        wanted = workers
    shared = find_shared_bytes()
    free = None if shared is None else shared // trainings
    if not wanted or free is None or _count_bytes(wanted, batch_bytes) <= free:
        return wanted
    fitting = max((free // batch_bytes - 1) // BATCHES_AHEAD, 0)
    shortage = (
        f"{free / 2**20:,.0f} MiB of shared memory are free (/dev/shm), and the batches of "
        f"{describe_count(wanted, 'process')} that read images need {_count_bytes(wanted, batch_bytes) / 2**20:,.0f}"
    )
    if workers is None:
        on_message(Note("little-shared-memory", f"{shortage}: training with {describe_count(fitting, 'such process')}"))
        return fitting
    raise MachineError(
        shortage, f"Start the container with more (`docker run --shm-size=1g`), or use `workers={fitting}`."
    )


def count_batch_bytes(training: TrainingConfig, form: ImageForm) -> int:
    """Return the bytes of a batch as workers pass it on: images as they are stored or in 32 bits, and labels.

    Args:
        training: Crop and batch.
        form: The images.
    """
    value_bytes = 1 if form.dtype == "uint8" else 4
    return training.batch_size * training.crop**2 * (form.channels * value_bytes + LABEL_BYTES)


def _count_bytes(workers: int, batch_bytes: int) -> int:
    return (BATCHES_AHEAD * workers + 1) * batch_bytes
