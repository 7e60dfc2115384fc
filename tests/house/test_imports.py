from __future__ import annotations

import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "timm", "lightning", "cv2")


def find_loaded(code: str, names: tuple[str, ...]) -> list[str]:
    """Run `code` in a fresh interpreter and return which of `names` it has imported."""
    script = f"import sys\n{code}\nprint('loaded:', *(name for name in {names!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1].split()[1:]


def test_the_package_alone_loads_neither_torch_nor_numpy():
    assert find_loaded("import atrous; atrous.__version__; dir(atrous)", (*HEAVY, "numpy", "pydantic", "rich")) == []


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(words):
    code = f"from atrous.cli.main import main\nmain({words!r})"
    assert find_loaded(code, (*HEAVY, "numpy")) == []


@pytest.mark.parametrize("folder", ["core", "config", "reports"])
def test_torch_stays_out_of_the_lowest_folders(folder):
    code = (
        "import importlib, pkgutil, atrous\n"
        f"package = importlib.import_module('atrous.{folder}')\n"
        f"for found in pkgutil.walk_packages(package.__path__, 'atrous.{folder}.'):\n"
        "    importlib.import_module(found.name)"
    )
    assert find_loaded(code, HEAVY) == []


def test_the_tables_of_parts_load_without_torch():
    assert find_loaded("import atrous.networks, atrous.data, atrous.cli.main", ("torch", "timm", "lightning")) == []


def test_help_answers_at_once():
    """Processor time is measured, which other programs on the machine do not change."""
    seconds = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, "-m", "atrous", "--help"], capture_output=True, check=True)
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(seconds) < 0.3
