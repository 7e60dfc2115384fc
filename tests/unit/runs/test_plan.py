from __future__ import annotations

from pathlib import Path

import pytest

from atrous.config.load import load_config
from atrous.core.errors import MachineError
from atrous.runs.plan import plan_training


def test_a_dry_run_refuses_a_step_that_cannot_fit_in_memory(shapes_folder: Path, tmp_path: Path) -> None:
    given = {"data.source": str(shapes_folder), "model.name": "fcn-tiny", "weights": "none", "out": tmp_path / "run"}
    assert plan_training(load_config(options={**given, "crop": 65}))
    with pytest.raises(MachineError, match=r"training\.crop 100001 with training\.batch 8 takes more than"):
        plan_training(load_config(options={**given, "crop": 100_001}))
    assert not (tmp_path / "run").exists()
