"""One optimiser step: forward and backward passes, clipping, update."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from lightning.fabric import Fabric

from atrous.config.schema import TrainingConfig
from atrous.core.errors import TrainingDiverged
from atrous.data.sampling import Batch
from atrous.networks.layers.synchronised import synchronising
from atrous.networks.segmenter import Segmenter
from atrous.training.norm import start_training
from atrous.training.task import TrainingTask
from atrous.training.world import World

BACKWARD = threading.Lock()
"""Held during a backward pass: Lightning has one variable, for all threads, that says whether it runs one."""


@dataclass(frozen=True)
class Step:
    """What an optimiser step works on.

    Args:
        settings: How the network is trained.
        world: The processes that make the step together.
        fabric: Device and precision.
        network: The network that learns.
        task: The network with its loss, wrapped by Fabric, which passes attributes through.
        optimizer: The optimiser of the network's parameters, wrapped by Fabric.
    """

    settings: TrainingConfig
    world: World
    fabric: Fabric
    network: Segmenter
    task: TrainingTask
    optimizer: torch.optim.Optimizer

    def take(self, batches: Sequence[Batch], number: int) -> float:
        """Make one step.

        Args:
            batches: This process's batches of the step; their gradients are added up.
            number: Number of the step, from 1, for messages.
        Returns: The loss: the weighted mean over the valid pixels of all batches of all processes.
        Raises:
            TrainingDiverged: The loss or its gradient is not finite; the message names the images.
        """
        start_training(self.network, frozen_norms=self.settings.norm == "frozen")
        moved = [self.fabric.to_device((batch.images, batch.labels)) for batch in batches]
        weight = self.world.reduce(torch.stack([self.task.count_weight(labels) for _, labels in moved]).sum())
        loss = 0.0
        for number_of_pass, (images, labels) in enumerate(moved, start=1):
            is_last = number_of_pass == len(moved)
            with self.fabric.no_backward_sync(self.task, enabled=not is_last):  # type: ignore[arg-type]  # it is wrapped
                with synchronising():
                    share = self.task(images.contiguous(memory_format=torch.channels_last), labels, weight)
                # Gradients are averaged over processes, and shares of one loss have to be added up.
                with BACKWARD:
                    self.fabric.backward(share * self.world.size)
            loss += share.item()
        loss = self.world.reduce(torch.tensor(loss, dtype=torch.float64)).item()
        parameters = [p for p in self.network.parameters() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.settings.clip_norm or math.inf).item()
        if not math.isfinite(loss + norm):
            passes = zip(*self.world.gather([batch.keys for batch in batches]), strict=True)
            keys = ", ".join(key for parts in passes for part in parts for key in part)
            raise TrainingDiverged(
                f"step {number} has loss {loss} and gradient norm {norm} (images {keys})",
                "Start a new run with a lower `lr` or training.clip_norm, or with `precision=fp32`.",
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss
