"""What an exact resume must hold. Order, augmentation and learning rate are functions of the step, so it is little."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atrous.core.errors import ModelFileError
from atrous.core.files import atomic_path
from atrous.core.records import Scores

FORMAT_VERSION = 1


@dataclass
class TrainState:
    """Where a run stands: what is counted on from step to step.

    Args:
        step: Optimiser steps done.
        spent_s: Wall-clock seconds of earlier sittings.
        best_step: The step of the best validation, or None before the first.
        best_scores: That validation's scores.
        losses: Losses since the last validation.
    """

    step: int = 0
    spent_s: float = 0.0
    best_step: int | None = None
    best_scores: Scores | None = None
    losses: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        return vars(self) | {"best_scores": self.best_scores.to_json() if self.best_scores else None}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TrainState:
        """Build a train_state from `to_json`'s form."""
        scores = Scores.from_json(value["best_scores"]) if value["best_scores"] else None
        return cls(**(value | {"best_scores": scores, "losses": tuple(value["losses"])}))


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run at a step boundary.

    Args:
        step: Steps done.
        network: The network's tensors.
        averaged: The averaged network's tensors.
        optimizer: The optimiser's state dict.
        record: What is plain: the plan, the rows of the CSV, the best score, seconds spent.
    """

    step: int
    network: dict[str, Tensor]
    averaged: dict[str, Tensor]
    optimizer: dict[str, Any]
    record: dict[str, Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically; tensors and plain values alone."""
    content = {
        "format_version": FORMAT_VERSION,
        "step": checkpoint.step,
        "network": checkpoint.network,
        "averaged": checkpoint.averaged,
        "optimizer": checkpoint.optimizer,
        "record": json.dumps(checkpoint.record),
    }
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        ModelFileError: No such file, a damaged one, or one of another kind.
    """
    if not path.is_file():
        raise ModelFileError(f"{path}: no such checkpoint", "Give the folder of a run that was interrupted.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(content, dict):
            raise ModelFileError(f"{path}: is not a checkpoint of atrous", "Give the folder of a run of atrous.")
        if content["format_version"] > FORMAT_VERSION:
            raise ModelFileError(f"{path}: written by a later atrous", "Update atrous.")
        return Checkpoint(
            content["step"],
            content["network"],
            content["averaged"],
            content["optimizer"],
            json.loads(content["record"]),
        )
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(
            f"{path}: cannot be read: {error}", "The checkpoint is damaged; start the run anew."
        ) from error
