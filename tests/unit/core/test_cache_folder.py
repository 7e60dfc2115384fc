from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from atrous.core import cache_folder
from atrous.core.cache_folder import find_cache_folder
from atrous.core.load_compiled import cache_in_a_folder


@pytest.fixture
def no_home(monkeypatch, tmp_path):
    """No HOME, and a user id without an entry in the list of users, as in many containers."""

    def refuse(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    for name in ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", refuse)
    monkeypatch.chdir(tmp_path)


def test_without_a_home_folder_the_cache_is_a_temporary_folder_of_the_users_own(no_home):
    folder = find_cache_folder()
    assert folder is not None
    assert folder.is_absolute()
    assert folder.stat().st_uid == os.getuid()
    assert os.listdir() == []


def test_compiled_code_gets_a_folder_while_numba_is_imported_where_no_home_is_known(no_home):
    with cache_in_a_folder():
        assert Path(os.environ["NUMBA_CACHE_DIR"]).is_absolute()
    assert "NUMBA_CACHE_DIR" not in os.environ


@pytest.mark.parametrize("name", ["HOME", "NUMBA_CACHE_DIR"])
def test_what_the_user_has_chosen_stays(no_home, monkeypatch, name):
    monkeypatch.setenv(name, "/tmp")
    before = dict(os.environ)
    with cache_in_a_folder():
        assert dict(os.environ) == before
    assert dict(os.environ) == before


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert find_cache_folder() == tmp_path / "xdg" / "atrous"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert find_cache_folder() == tmp_path / "home" / ".cache" / "atrous"
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))  # no folder can be made there
    monkeypatch.setattr(cache_folder.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    own = find_cache_folder()
    assert own.parent == tmp_path / "tmp"
    assert own.stat().st_mode & 0o777 == 0o700


def test_a_folder_for_temporary_files_that_somebody_else_made_is_not_used(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(cache_folder.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"atrous-{os.getuid()}").symlink_to(tmp_path / "elsewhere")  # as another user may, in a shared folder
    assert find_cache_folder() is None
    assert not any((tmp_path / "elsewhere").iterdir())
