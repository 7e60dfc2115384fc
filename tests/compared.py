"""Two runs compared: tensors to the bit, and their curves without times."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from atrous.core.run_folder import RunFolder
from atrous.training.checkpoint import load_checkpoint


def list_tensors(folder: Path) -> dict[str, Tensor]:
    """Return all tensors of a run: weights, averages, state of the optimiser, and the best weights."""
    run = RunFolder(folder)
    state = load_checkpoint(run.checkpoint)
    moments = {f"{key} {name}": value for key, own in state.optimizer["state"].items() for name, value in own.items()}
    averaged = {f"averaged {name}": tensor for name, tensor in state.averaged.items()}
    best = {f"best {name}": tensor for name, tensor in load_file(run.model).items()}
    return state.network | averaged | moments | best


def read_rows(folder: Path) -> list[dict[str, str]]:
    """Return the rows of metrics.csv without times."""
    with RunFolder(folder).curve.open(newline="") as file:
        return [row | {"seconds": ""} for row in csv.DictReader(file)]


def assert_same_runs(one: Path, other: Path) -> None:
    """Require two runs to have ended alike, in their earlier stages too."""
    first, second = list_tensors(one), list_tensors(other)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert read_rows(one) == read_rows(other)
    stages = [[stage.path.name for stage in RunFolder(folder).iter_stages()] for folder in (one, other)]
    assert stages[0] == stages[1]
    for name in stages[0]:
        assert_same_runs(one / name, other / name)
