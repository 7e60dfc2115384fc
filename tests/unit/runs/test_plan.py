from __future__ import annotations

import re
from pathlib import Path

import pytest

from atrous.api import run_training
from atrous.config.load import load_config
from atrous.core.errors import MachineError
from atrous.runs.plan import plan_training


def test_a_dry_run_refuses_a_step_that_cannot_fit_in_memory(shapes_folder: Path, tmp_path: Path) -> None:
    given = {"data.source": str(shapes_folder), "model.name": "fcn-tiny", "weights": "none", "out": tmp_path / "run"}
    assert plan_training(load_config(options={**given, "crop": 65}))
    with pytest.raises(MachineError, match=r"training\.crop 100001 with training\.batch 8 takes more than"):
        plan_training(load_config(options={**given, "crop": 100_001}))
    assert not (tmp_path / "run").exists()


def test_a_dry_run_tells_length_and_weights_and_the_rates_of_each_stage_as_they_will_be(shapes_folder, tmp_path):
    """A later stage starts from trained weights, also where the first one starts from random ones."""
    given = {"data.source": str(shapes_folder), "model.name": "fcn-tiny", "weights": "none", "iterations": 3}
    given |= {"batch": 2, "crop": 65, "stages": [{}, {"training.norm": "frozen"}]}
    planned = plan_training(load_config(options={**given, "output.folder": str(tmp_path / "planned")}))
    said: list[str] = []
    run_training(load_config(options={**given, "output.folder": str(tmp_path / "run")}), on_message=said.append)
    optimizers = [line for line in planned if line.startswith("optimizer: ")]
    assert optimizers == [line for line in said if line.startswith("optimizer: ")]
    assert "random weights and a step of 2 images" in optimizers[0]
    assert "trained weights" in optimizers[1]
    lengths = [line for line in planned if line.startswith("training: ")]
    (steps, epochs) = re.search(r"plan: (3 steps) of 2 images \((.* epochs)", "\n".join(said)).groups()
    assert len(lengths) == 2
    assert all(line.startswith(f"training: {steps} ({epochs})") for line in lengths)
    models = [line for line in planned if line.startswith("model: ")]
    assert [line.rpartition(", ")[2] for line in models] == ["weights of none", "weights of the stage before"]
