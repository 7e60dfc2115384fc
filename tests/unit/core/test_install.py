from __future__ import annotations

import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from atrous.core import install
from atrous.core.install import describe_install

ROOT = Path(__file__).parents[3]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def read_packages(command: str) -> list[str]:
    """The packages that a command installs, without their versions."""
    words = shlex.split(command)
    assert words[:4] == [sys.executable, "-m", "pip", "install"]
    return [re.split(r"[<>=!~\[]", word)[0] for word in words[4:]]


@pytest.mark.parametrize("extra", ["fast", "formats", "lite", "onnx", "openvino", "tiff"])
def test_an_extra_is_installed_by_its_packages(extra):
    named = [re.split(r"[<>=!~\[]", line)[0] for line in EXTRAS[extra]]
    assert sorted(read_packages(describe_install("any", extra))) == sorted(named)


def test_a_package_of_no_extra_is_installed_by_its_name(monkeypatch):
    assert read_packages(describe_install("no-such-package")) == ["no-such-package"]
    assert read_packages(describe_install("numba", "no-such-extra")) == ["numba"]
    monkeypatch.setattr(install, "DISTRIBUTION", "a-package-that-is-not-installed")  # run from a copy of the source
    assert read_packages(describe_install("numba", "fast")) == ["numba"]


def test_nothing_tells_users_to_install_this_package_from_an_index():
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.py")]
    wrong = re.compile(r"pip install ['\"]?atrous\b")
    assert [str(path) for path in files if wrong.search(path.read_text(encoding="utf-8"))] == []
