"""Which file a name or a path of a model stands for."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from atrous.core.errors import ModelFileError
from atrous.core.shipped import DEFAULT_MODEL
from atrous.networks.model_source import describe_default, find_model


@pytest.fixture
def place(tmp_path, monkeypatch, shipped_tiny) -> Path:
    """The current folder, in which a run folder has the name of a shipped model."""
    folder = tmp_path / "place"
    (folder / "animals").mkdir(parents=True)
    shutil.copy(shipped_tiny, folder / "animals" / "model.safetensors")
    monkeypatch.chdir(folder)
    return folder


def test_a_shipped_name_precedes_a_folder_as_a_registered_data_set_does(place, shipped_tiny):
    assert find_model("animals") == shipped_tiny
    for path in ("./animals", Path("animals"), "animals/model.safetensors", str(place / "animals")):
        assert find_model(path).resolve() == place / "animals" / "model.safetensors"


def test_a_text_may_begin_with_the_home_folder(place, monkeypatch):
    monkeypatch.setenv("HOME", str(place))
    assert find_model("~/animals") == place / "animals" / "model.safetensors"


def test_what_is_neither_file_nor_name_is_refused_with_the_nearest_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFileError, match="no such file or folder") as caught:
        find_model("animal")
    assert caught.value.hint.startswith("Did you mean animals?")
    assert caught.value.hint.endswith("or the name of a model: animals.")


def test_the_default_says_its_data_and_classes(shipped_tiny):
    note = describe_default()
    assert note.code == "default-model"
    assert note.startswith(f"no model is named, so {DEFAULT_MODEL} labels the images")
    assert note.endswith("trained on tiny train, 12 images; classes background, cat")
