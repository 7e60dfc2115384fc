from __future__ import annotations

import importlib.util
import io

import numpy as np
import pytest
from PIL import Image

from atrous.core.errors import ModelFileError
from atrous.images.tiny_files import BLUE, FILES, RED
from atrous.inference import BACKENDS
from atrous.inference.backends.torch_eager import TorchEager
from atrous.runs.trials import Part, list_parts, try_part

SLOW = ("backend compile", "backend onnxruntime", "backend openvino", "format pt2", "tensorboard")
"""Parts whose packages take seconds to start."""


class Halved(TorchEager):
    """A backend that computes wrongly."""

    def __call__(self, images):
        cells = super().__call__(images)
        cells.logits.mul_(0.5)
        return cells


def find_part(name: str) -> Part:
    return next(part for part in list_parts() if part.name == name)


@pytest.mark.parametrize(
    "name", [pytest.param(part.name, marks=[pytest.mark.slow] * (part.name in SLOW)) for part in list_parts()]
)
def test_each_part_that_is_installed_works(name):
    part = find_part(name)
    for package in part.packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    outcome = try_part(part)
    assert (outcome.state, outcome.remedy) == ("works", ""), outcome.detail
    assert outcome.detail


def test_a_package_that_is_missing_comes_with_the_command_that_installs_it():
    outcome = try_part(Part("TIFF", "rasters", lambda: "", ("no_such_package",), "tiff"))
    assert outcome.state == "missing"
    assert "no_such_package" in outcome.detail
    assert "pip install" in outcome.remedy
    assert "tifffile>=" in outcome.remedy


@pytest.mark.parametrize(
    ("error", "detail", "remedy"),
    [
        (ModelFileError("cannot be converted", "Try another."), "cannot be converted", "Try another."),
        (ImportError("libfoo.so.1: cannot open\nmore"), "ImportError: libfoo.so.1: cannot open", "pip install"),
        (ZeroDivisionError(), "ZeroDivisionError", "pip install"),
        (SystemError("null argument"), "SystemError: null argument", "pip install"),
    ],
)
def test_whatever_a_package_raises_is_an_outcome(error, detail, remedy):
    def trial() -> str:
        raise error

    outcome = try_part(Part("numpy", "all", trial, ("numpy",), "fast"))
    assert outcome.state == "fails"
    assert detail in outcome.detail
    assert "\n" not in outcome.detail
    assert remedy in outcome.remedy


def test_a_backend_that_computes_wrongly_fails():
    with BACKENDS.including(("halved", f"{__name__}:Halved", "network")):
        outcome = try_part(find_part("backend halved"))
    assert outcome.state == "fails"
    assert "differs from torch: logits by" in outcome.detail


@pytest.mark.parametrize("name", ["AVIF", "HEIF", "JPEG XL", "TIFF", "SBD"])
def test_a_file_that_is_not_read_as_it_was_written_fails(name, monkeypatch):
    part = find_part(name)
    for package in part.packages:
        pytest.importorskip(package)
    swapped = np.zeros((16, 24, 3), dtype=np.uint8)
    swapped[:, :12], swapped[:, 12:] = BLUE, RED
    file = io.BytesIO()
    Image.fromarray(swapped).save(file, "TIFF" if name == "TIFF" else "PNG")
    monkeypatch.setitem(FILES, name, file.getvalue())
    assert try_part(part).state == "fails"
