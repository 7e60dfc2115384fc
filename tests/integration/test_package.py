"""The wheel and the sdist: what is in them, and that each labels a photo where nothing else of the project is."""

from __future__ import annotations

import os
import shutil
import site
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.core.data_source import TERMS
from atrous.core.shipped import SHIPPED, find_shipped

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "docs" / "images" / "chelsea.jpg"
CAT = 8
"""The id of a cat in PASCAL VOC."""


def run(*words: str | Path, folder: Path) -> str:
    """Run a command outside the source tree and return what it prints."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, words)), cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the wheel and the sdist of a copy of the source, and of a file in models/."""
    pytest.importorskip("hatchling", reason="hatchling, which builds the package, is not installed")
    source, out = (tmp_path_factory.mktemp(name) for name in ("source", "built"))
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, source / name)
    (source / "models").mkdir()
    (source / "models" / "street.safetensors").touch()
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-t", "sdist", "-d", str(out)],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def list_files(archive: Path) -> dict[str, int]:
    """Return the size of each file in a wheel, or in an sdist below its first folder."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            return {entry.filename: entry.file_size for entry in wheel.infolist()}
    with tarfile.open(archive) as sdist:
        return {entry.name.partition("/")[2]: entry.size for entry in sdist if entry.isfile()}


@pytest.mark.parametrize(("pattern", "base"), [("*.whl", "atrous"), ("*.tar.gz", "src/atrous")])
def test_shipped_models_and_their_notice_are_packed_and_models_are_not(built, pattern, base):
    (archive,) = built.glob(pattern)
    files = list_files(archive)
    packed = {name: size for name, size in files.items() if name.endswith(".safetensors")}
    sizes = {f"{base}/shipped/{name}.safetensors": find_shipped(name).stat().st_size for name in SHIPPED}
    assert packed == sizes
    assert max(packed.values()) < 15e6
    assert any(name.endswith("NOTICE") for name in files)
    assert {f"{base}/__main__.py", f"{base}/config/recipes/voc.yaml"} <= set(files)
    assert not any(name.startswith("models/") for name in files)


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["*.whl", "*.tar.gz"])
def test_a_package_in_an_empty_environment_labels_a_photo(built, pattern, tmp_path):
    """Its dependencies are those of this environment, which a file of paths names: they are not downloaded."""
    (archive,) = built.glob(pattern)
    if archive.suffix != ".whl":
        options = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation")
        subprocess.run([sys.executable, "-m", "pip", "wheel", *options, archive], cwd=tmp_path, check=True)
        (archive,) = tmp_path.glob("*.whl")
    place = tmp_path / "environment"
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", archive, folder=tmp_path)
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()))
    found = run(python, "-c", "import atrous; print(atrous.__file__)", folder=tmp_path)
    assert Path(found.strip()).is_relative_to(packages)
    printed = run(place / "bin" / "atrous", "predict", PHOTO, "--out", "labelled", folder=tmp_path)
    assert "no model is named, so animals labels the images" in printed
    assert TERMS["voc"] in " ".join(printed.split())
    labels = np.array(Image.open(tmp_path / "labelled" / f"{PHOTO.stem}.png"))
    ids, counts = np.unique(labels[labels > 0], return_counts=True)
    assert ids[counts.argmax()] == CAT
