from __future__ import annotations

import json
import os
import platform
import pwd
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from atrous.core import provenance


def test_it_is_strict_json_with_the_versions_that_are_imported():
    found = json.loads(json.dumps(provenance.collect_provenance(), allow_nan=False))
    assert found["versions"]["numpy"] == np.__version__
    assert found["versions"]["python"] == platform.python_version()
    assert set(found) == {"versions", "git", "machine", "command"}


def test_versions_are_read_without_importing_torch():
    code = (
        "import sys; from atrous.core.provenance import collect_provenance as c; c(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_cores_and_memory_are_those_that_may_be_used():
    machine = provenance.describe_machine()
    assert 1 <= machine["cores"] <= (os.cpu_count() or 1)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    assert 0 < machine["memory_mib"] <= pages


def test_the_command_line_names_no_home_folder(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/atrous", "train", str(Path.home() / "my photos"), "--lr", "0.1"])
    assert provenance.describe_command() == "atrous train '~/my photos' --lr 0.1"


def test_git_state_is_the_commit_that_git_names(tmp_path, monkeypatch):
    package = tmp_path / "src" / "atrous" / "core" / "provenance.py"
    package.parent.mkdir(parents=True)
    package.write_text("")
    monkeypatch.setattr(provenance, "__file__", str(package))
    assert provenance.find_git_state() is None

    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init")
    assert provenance.find_git_state() is None  # no commit yet
    git("add", ".")
    git("commit", "-m", "first")
    assert provenance.find_git_state() == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    package.write_text("changed")
    assert provenance.find_git_state() == {"commit": git("rev-parse", "HEAD"), "dirty": True}


def lose_home(monkeypatch):
    """No HOME, and a user id without an entry in the list of users, as in many containers."""

    def refuse(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", refuse)


def lose_git(monkeypatch):
    monkeypatch.setattr(provenance.Path, "exists", lambda path: True)  # there seems to be a checkout
    monkeypatch.setenv("PATH", "")


def break_git(monkeypatch):
    def answer(*words: object, **options: object) -> None:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")

    monkeypatch.setattr(provenance.subprocess, "run", answer)


def break_packages(monkeypatch):
    def read(name: str) -> str:
        raise KeyError("Version")  # a folder of metadata that an interrupted installation left

    monkeypatch.setattr(provenance.metadata, "version", read)


def hide_machine(monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(provenance.Path, "read_text", refuse)
    monkeypatch.setattr(provenance, "find_memory_mib", refuse)
    monkeypatch.setattr(provenance, "count_usable_cores", refuse)


@pytest.mark.parametrize(
    "break_system",
    [
        lose_home,
        lose_git,
        break_git,
        break_packages,
        hide_machine,
        lambda patch: patch.setattr(sys, "argv", []),
        lambda patch: patch.delattr(sys, "argv"),
        lambda patch: patch.setattr(sys, "argv", ["atrous", "predict", "\udcff.jpg"]),
        lambda patch: patch.setattr(provenance, "__file__", "/provenance.py"),
    ],
)
def test_nothing_about_provenance_ends_a_run(monkeypatch, break_system):
    break_system(monkeypatch)
    found = json.loads(json.dumps(provenance.collect_provenance(), allow_nan=False))
    assert set(found) == {"versions", "git", "machine", "command"}
    assert found["versions"]["python"] == platform.python_version()
