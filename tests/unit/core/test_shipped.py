"""Names of shipped models, and paths that could be taken for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from atrous.core import shipped
from atrous.core.errors import ModelFileError
from atrous.core.shipped import DEFAULT_MODEL, SHIPPED, describe_shadowed, find_shipped, is_shipped, write_path


def test_a_name_is_a_text_and_nothing_else():
    assert is_shipped("animals")
    assert not any(map(is_shipped, ("./animals", "animals/", "Animals", Path("animals"), None)))


def test_a_path_of_that_name_is_written_as_a_path():
    assert write_path(Path("animals")) == str(Path.cwd() / "animals")
    assert write_path(Path("runs/animals")) == "runs/animals"
    assert not is_shipped(write_path(Path("animals")))


def test_a_path_that_a_name_hides_is_reported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert describe_shadowed("animals") is None
    (tmp_path / "animals").mkdir()
    assert "the path here is ./animals" in describe_shadowed("animals")
    assert describe_shadowed("./animals") is None
    assert describe_shadowed(Path("animals")) is None


def test_a_missing_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    with pytest.raises(ModelFileError, match=r"animals\.safetensors is missing") as caught:
        find_shipped("animals")
    assert "Install atrous again" in caught.value.hint


def test_the_table_is_complete():
    assert DEFAULT_MODEL in SHIPPED
    for model in SHIPPED.values():
        assert model.latency.seconds > 0
        assert "ms for 500 x 375 pixels" in model.latency.describe()
        assert model.latency.machine
