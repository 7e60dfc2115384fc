"""Checkpoints: what an exact resume needs. Order, augmentation and learning rate are functions of the step."""

from __future__ import annotations

import errno
import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from atrous.core.errors import AtrousError, ModelFileError
from atrous.core.files import atomic_path, open_deferring
from atrous.core.records import Scores
from atrous.core.run_folder import RunFolder
from atrous.core.seal import find_damaged_member
from atrous.core.system_errors import raise_shortage

FORMAT_VERSION = 2


@dataclass
class TrainState:
    """Progress of a training, updated after every step.

    Args:
        step: Optimiser steps done.
        spent_s: Wall-clock seconds spent before this process.
        best_step: The step of the best validation, or None before the first.
        best_scores: That validation's scores.
        losses: Losses since the last validation.
        seen: Pixels of each class in all crops, (K,), where the settings choose the crops; else empty.
        missed: Validations in a row that have not predicted each class, (K,).
    """

    step: int = 0
    spent_s: float = 0.0
    best_step: int | None = None
    best_scores: Scores | None = None
    losses: tuple[float, ...] = ()
    seen: tuple[int, ...] = ()
    missed: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        return vars(self) | {"best_scores": self.best_scores.to_json() if self.best_scores else None}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TrainState:
        """Build a state from `to_json`'s form."""
        scores = Scores.from_json(value["best_scores"]) if value["best_scores"] else None
        counts = {name: tuple(value.get(name, ())) for name in ("seen", "missed")}  # earlier checkpoints have none
        return cls(**(value | {"best_scores": scores, "losses": tuple(value["losses"])} | counts))


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run at a step boundary.

    Args:
        step: Steps done.
        network: The network's tensors.
        averaged: The averaged network's tensors.
        optimizer: The optimiser's state dict.
        record: Plain values: the plan, the state, the rows of metrics.csv, the hash of the data, how convolutions were
            computed, and the settings that a resumed run has to keep.
    """

    step: int
    network: dict[str, Tensor]
    averaged: dict[str, Tensor]
    optimizer: dict[str, Any]
    record: dict[str, Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically; it holds tensors and plain values only.

    Args:
        path: The file.
        checkpoint: The state of the run.
    """
    content = {
        "format_version": FORMAT_VERSION,
        "step": checkpoint.step,
        "network": checkpoint.network,
        "averaged": checkpoint.averaged,
        "optimizer": checkpoint.optimizer,
        "record": json.dumps(checkpoint.record),
    }
    with atomic_path(path) as temporary, open_deferring(temporary) as file:
        torch.save(content, file)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        ModelFileError: The file is missing or damaged, is no checkpoint, or has another format.
    """
    with explain_damage(path):
        if path.is_file() and (damaged := find_damaged_member(path)):
            raise ModelFileError(f"{path}: has changed since it was written: {damaged} is damaged", _suggest(path))
        content = _load(path)
        return Checkpoint(
            content["step"],
            content["network"],
            content["averaged"],
            content["optimizer"],
            json.loads(content["record"]),
        )


def load_record(path: Path) -> dict[str, Any]:
    """Read the record of a checkpoint, such as the settings that its run began with, without its tensors.

    Raises:
        ModelFileError: See `load_checkpoint`.
    """
    with explain_damage(path):
        record: dict[str, Any] = json.loads(_load(path, mmap=True)["record"])
        return record


def _load(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """Return the content of a file after checking its format; with `mmap`, tensors are read when they are used."""
    if not path.is_file():
        raise ModelFileError(f"{path}: no such checkpoint", "Give the folder of a run that was interrupted.")
    content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    if not isinstance(content, dict):
        raise ModelFileError(f"{path}: not a checkpoint of atrous", "Give the folder of a run of atrous.")
    version = content["format_version"]
    if version > FORMAT_VERSION:
        raise ModelFileError(f"{path}: written by a later atrous", "Update atrous.")
    if version < FORMAT_VERSION:
        raise ModelFileError(f"{path}: has format {version} of an earlier atrous", _suggest(path))
    return content


@contextmanager
def explain_damage(path: Path) -> Iterator[None]:
    """Say of an error while a checkpoint is read or put back which file is damaged, and how to go on.

    Args:
        path: The checkpoint.
    Raises:
        ModelFileError: The block failed.
    """
    try:
        yield
    except AtrousError:
        raise
    except Exception as error:  # a damaged file can raise anything; PyTorch's advice is to open it without any check
        raise_shortage(error, path)
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # EINVAL: a truncated file
            problem = f"cannot be read: {error.strerror}"
        elif isinstance(error, (KeyError, TypeError, ValueError)):
            problem = "is damaged, or not a checkpoint of atrous"
        else:
            problem = "is damaged, or holds more than tensors and numbers; it was not opened"
        raise ModelFileError(f"{path}: {problem}", _suggest(path)) from error


def _suggest(path: Path) -> str:
    """Return the way to continue without a checkpoint: a new run, from the best weights if there are any."""
    run = RunFolder(path.parent)
    recipe, weights = (shlex.quote(str(file)) for file in (run.find_whole().config, run.model))
    if not run.model.is_file():
        return f"Start a new run with the same settings: atrous train --recipe {recipe}"
    command = "atrous train --recipe RECIPE --weights MODEL".replace("RECIPE", recipe).replace("MODEL", weights)
    return f"Start a new run from the best weights of this one: {command}"
