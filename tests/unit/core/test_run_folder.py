from __future__ import annotations

import ast
from pathlib import Path

import pytest

import atrous
from atrous.core import run_folder
from atrous.core.run_folder import RunFolder

NAMES = [value for name, value in vars(run_folder).items() if name.endswith("_NAME") and "." in value]
SOURCE = Path(atrous.__file__).parent


HUB = {"from_timm.py", "published.py"}
"""Files that know a name of the weights' hub, which happens to be that of a run's model."""


@pytest.mark.parametrize("name", NAMES)
def test_a_file_name_of_a_run_is_written_in_one_place(name):
    found = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for path in SOURCE.rglob("*.py")
        if path.name != "run_folder.py" and not (name == run_folder.MODEL_NAME and path.name in HUB)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value == name
    ]
    assert found == []


def test_stages_are_listed_from_the_latest(tmp_path):
    run = RunFolder(tmp_path)
    for number in (1, 2, 10):
        run.stage(number).path.mkdir()
    (tmp_path / "stage-2 of Monday").mkdir()  # a copy that somebody made
    assert [stage.path.name for stage in run.iter_stages()] == ["stage-10", "stage-2", "stage-1"]
    assert not run.is_run
    run.config.touch()
    assert run.is_run


def test_a_stage_knows_its_run(tmp_path):
    run, alone = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "stage-1")
    for folder in (run, run.stage(1), alone):
        folder.path.mkdir()
        folder.config.touch()
    assert [folder.find_whole() for folder in (run, run.stage(1), alone)] == [run, run, alone]
