from __future__ import annotations

from pathlib import Path

import pytest

from atrous.core.data_source import DATASETS, DataSource, require_source, resolve_source
from atrous.core.errors import AtrousError, DataError


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
    assert resolve_source("shapes") == resolve_source("shapes", "/r") == DataSource("shapes", None)  # it has no files
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


REGISTERED = "Registered data sets: shapes, camvid, voc, cityscapes, ade20k."


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("nowhere", "no folder nowhere", REGISTERED),
        ("camvit", "no folder camvit", f"Did you mean camvid? {REGISTERED}"),
        ("Phots", "no folder Phots", f"Did you mean photos? {REGISTERED}"),
        ("d/nowhere", "no folder d/nowhere", REGISTERED),
        ("d/leafs/", "no folder d/leafs/", f"Did you mean d/leaves? {REGISTERED}"),
        ("photso/raw", "no folder photso/raw", f"Did you mean photos/raw? {REGISTERED}"),
        ("photso/other", "no folder photso/other", f"Did you mean photos? {REGISTERED}"),
        ("photos/atrous.yml", "no file photos/atrous.yml", f"Did you mean photos/atrous.yaml? {REGISTERED}"),
        ("a.jpg", "a.jpg is a file, not a folder", "Give the folder"),
        ("voc=d/leafs", "data set 'voc': no folder d/leafs", "Did you mean d/leaves? Give its folder: voc=PATH;"),
        (
            "voc",
            "no folder for the data set 'voc': no `data_root`, and ATROUS_DATA is not set",
            "Give its folder: voc=",
        ),
        ("runs/a", "runs/a is a run, not data", "Give the folder"),
        ("runs/a/model.safetensors", "runs/a/model.safetensors is a model, not data", "Give the folder"),
        ("camvit=d", "unknown data set 'camvit'", "Did you mean 'camvid'?"),
    ],
)
def test_a_source_that_is_no_data_is_named_with_what_was_probably_meant(text, message, hint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("photos/raw", "d/leaves", "runs/a"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("photos/atrous.yaml", "a.jpg", "runs/a/config.yaml", "runs/a/model.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(AtrousError) as caught:
        require_source(text)
    assert caught.value.message == message
    assert caught.value.hint.startswith(hint)


def test_drawn_data_need_no_folder_and_a_registered_root_is_looked_into(tmp_path):
    assert require_source("shapes") == DataSource("shapes", None)
    with pytest.raises(DataError, match=f"data set 'camvid': no folder {tmp_path / 'camvid'}"):
        require_source("camvid", str(tmp_path))
