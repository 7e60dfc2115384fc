from __future__ import annotations

from pathlib import Path

import pytest

from atrous.core.data_source import DATASETS, DataSource, require_source, resolve_source
from atrous.core.errors import DataError


@pytest.fixture(autouse=True)
def _no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ATROUS_DATA", raising=False)


def test_every_form_of_a_source(tmp_path, monkeypatch):
    assert resolve_source(f"camvid={tmp_path}") == DataSource("camvid", tmp_path)
    assert resolve_source("camvid") == DataSource("camvid", None)
    assert resolve_source("voc", str(tmp_path)) == DataSource("voc", tmp_path / "voc")
    assert resolve_source(str(tmp_path)) == DataSource("folder", tmp_path)
    assert resolve_source("camvit=/x") == DataSource("camvit", Path("/x"))  # refused by the table, with a guess
    assert resolve_source("photos/a=b") == DataSource("folder", Path("photos/a=b"))
    monkeypatch.setenv("ATROUS_DATA", "~/sets")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_source("camvid") == DataSource("camvid", tmp_path / "sets" / "camvid")
    assert resolve_source("camvid", "/r") == DataSource("camvid", Path("/r/camvid"))
    assert resolve_source("~/photos") == DataSource("folder", tmp_path / "photos")
    assert resolve_source("camvid=~/photos") == DataSource("camvid", tmp_path / "photos")


def test_a_folder_with_an_equals_sign_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "camvid=1").mkdir()
    assert resolve_source("camvid=1") == DataSource("folder", Path("camvid=1"))
    assert resolve_source("camvid=2") == DataSource("camvid", Path("2"))


def test_the_settings_file_and_the_text_that_names_the_same_data(tmp_path):
    settings = tmp_path / "atrous.yaml"
    settings.touch()
    assert resolve_source(str(tmp_path)) == DataSource("folder", tmp_path, settings)
    named = resolve_source(f"voc={settings}")
    assert named == DataSource("voc", tmp_path, settings, is_settings_named=True)
    for source in (named, resolve_source(str(settings)), DataSource("voc", None)):
        again = resolve_source(str(source))
        assert (again.dataset, again.root) == (source.dataset, source.root)


def test_a_data_set_from_outside_the_package_is_a_name_too(tmp_path):
    with DATASETS.including(("moons", "moons:build")):
        assert resolve_source("moons", str(tmp_path)) == DataSource("moons", tmp_path / "moons")
    assert resolve_source("moons").dataset == "folder"


def test_a_source_that_is_nothing_gets_the_names_that_can_be_typed():
    with pytest.raises(DataError, match="'nowhere' is neither a folder nor a registered data set") as caught:
        require_source("nowhere")
    assert caught.value.hint == "Allowed: shapes, camvid, voc, cityscapes."
