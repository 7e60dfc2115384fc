from __future__ import annotations

import os
import socket

import numpy as np
import pytest
from PIL import Image

from atrous.core.findings import Finding
from atrous.data.checks.survey import Survey, run_checks
from atrous.data.inventory import take_inventory


def save(path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(path)


def check(root) -> dict[str, Finding]:
    inventories = take_inventory([("", root / "images", root / "masks")])
    return {finding.code: finding for finding in run_checks(Survey(inventories=inventories))}


@pytest.fixture
def root(tmp_path):
    save(tmp_path / "images" / "a.png")
    save(tmp_path / "masks" / "a.png")
    return tmp_path


def test_a_clean_folder_is_silent(root):
    assert check(root) == {}


def test_everything_that_does_not_pair_is_an_error(root):
    for name in ("images/alone.png", "masks/orphan.png", "images/a.bmp"):
        save(root / name)
    found = check(root)
    assert set(found) == {"duplicate-name", "image-without-mask", "mask-without-image"}
    assert all(finding.severity == "error" for finding in found.values())
    assert found["image-without-mask"].files == (str(root / "images" / "alone.png"),)
    assert "a.bmp and " in found["duplicate-name"].message


def test_a_folder_that_is_missing_or_empty_is_an_error_and_no_exception(tmp_path):
    found = check(tmp_path)
    assert found["unlisted-folder"].count == 2
    assert found["empty-split"].severity == "error"


def test_what_is_skipped_is_noted(root):
    save(root / "images" / ".ipynb_checkpoints" / "a-checkpoint.png")
    (root / "images" / "notes.txt").touch()
    (root / "images" / "photo.gif").touch()
    (root / "images" / "more").symlink_to(root)
    (root / "masks" / "gone.png").symlink_to(root / "nowhere.png")
    found = check(root)
    assert {code: (finding.severity, finding.count) for code, finding in found.items()} == {
        "hidden-files": ("note", 1),
        "foreign-files": ("note", 2),
        "linked-folders": ("note", 2),
    }


def test_what_could_block_for_ever_is_not_opened(root):
    os.mkfifo(root / "images" / "pipe.png")
    os.mkfifo(root / "masks" / "pipe.png")
    (root / "images" / "device.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        folder = os.open(root / "images", os.O_RDONLY)
        server.bind(f"/proc/self/fd/{folder}/socket.png")  # its own path may be too long for a socket
        os.close(folder)
    found = check(root)
    assert {code: (finding.severity, finding.count) for code, finding in found.items()} == {
        "special-files": ("note", 4)
    }
