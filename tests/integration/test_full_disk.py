"""Each file that is written, on a disk that is full: one sentence, nothing half-written, and what there was is kept."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from atrous.cli.main import main
from atrous.core import files
from atrous.core.errors import MachineError
from atrous.core.files import save_json
from atrous.core.run_folder import RunFolder
from atrous.exporting import FORMATS
from atrous.exporting.export import export_network
from atrous.images.encode import save_confidence, save_index_image, save_overlay, save_probabilities
from atrous.images.tiff import TiffImage, save_label_tiff
from atrous.networks.model_card import ModelCard
from atrous.networks.model_file import save_model
from atrous.reports.plots import save_bench_plot
from atrous.training.checkpoint import Checkpoint, save_checkpoint
from atrous.training.journal import Journal
from atrous.training.step import Step

DISK_BYTES = 2**18
PIXELS = np.random.default_rng(0).integers(0, 3, (64, 64), dtype=np.uint8)
BENCH = {"name": "a", "backend": "torch", "precision": "fp32", "output_stride": 16, "height": 9, "width": 9}
CARD = ModelCard(model={"name": "tiny"}, label_space=tiny.TINY_SPACE)


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A disk of `DISK_BYTES`; skipped where none can be mounted: test_files.py limits the size of files instead."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if (
        os.name == "nt"
        or shutil.which("mount") is None
        or subprocess.run(words, check=False, capture_output=True).returncode
    ):
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Leave no byte free on a disk, and return the file that fills it."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(4096))
            except OSError:
                return filler


def add_row(path: Path) -> None:
    Journal(RunFolder(path.parent)).add_row({"step": 1, "miou": 0.5})


def save_tiff(path: Path) -> None:
    source = path.parent.parent / "source.tif"
    Image.fromarray(PIXELS).save(source)
    with TiffImage(source) as image:
        save_label_tiff(path, iter([PIXELS]), image, tiny.TINY_SPACE)


def save_plot(path: Path) -> None:
    row = BENCH | {"median_s": 1.0, "least_s": 1.0, "most_s": 1.0, "images_per_s": 1.0, "peak_mib": 1.0, "miou": None}
    save_bench_plot({"rows": [row], "rounds": 1}, path)


def export(path: Path) -> None:
    [form] = [name for name in FORMATS if FORMATS.load(name).suffix == path.suffix]
    export_network(tiny.build_tiny(), CARD, path, format=form)


WRITERS: dict[str, Callable[[Path], object]] = {
    "metrics.json": lambda path: save_json(path, {"miou": 0.5}),
    "metrics.csv": add_row,
    "last.ckpt": lambda path: save_checkpoint(path, Checkpoint(1, {"a": torch.zeros(9)}, {}, {}, {})),
    "model.safetensors": lambda path: save_model(path, tiny.build_tiny(), CARD),
    "a.png": lambda path: save_index_image(path, PIXELS, tiny.TINY_SPACE),
    "a_overlay.jpg": lambda path: save_overlay(path, np.stack([PIXELS] * 3, axis=-1)),
    "a_confidence.png": lambda path: save_confidence(path, PIXELS / 3),
    "a_probabilities.npy": lambda path: save_probabilities(path, PIXELS[None] / 3),
    "a.tif": save_tiff,
    "bench.png": save_plot,
    "model.onnx": export,
}


@pytest.mark.usefixtures("_converted_once")
@pytest.mark.parametrize("name", WRITERS)  # exports take long; those of C++ writers are in the next test
def test_a_full_disk_is_one_sentence_and_what_was_there_is_kept(disk, name):
    path = disk / name
    path.write_text("old")
    filler = fill(disk)
    with pytest.raises(MachineError) as caught:
        WRITERS[name](path)
    assert caught.value.message == f"{path}: no space left on the disk (0 MiB free)"
    assert "Free some space" in caught.value.hint
    assert path.read_text() == "old"
    assert sorted(disk.iterdir()) == sorted([path, filler])


def test_a_log_on_a_full_disk(disk):
    fill(disk)
    journal = Journal(RunFolder(disk))
    journal.log("a sentence")
    with pytest.raises(MachineError, match=r"log\.txt: no space left on the disk"):
        journal.begin()


@pytest.mark.parametrize("name", ["model.xml", "model.pt2", "model.safetensors", "last.ckpt"])
def test_a_disk_that_fills_while_a_file_is_written_is_known_by_it(disk, monkeypatch, name):
    """What was written until then is removed, so that there is space again when the reason is looked for."""
    monkeypatch.setattr(files, "PROBE_BYTES", 8192)
    large = {"large": torch.zeros(DISK_BYTES)}
    writers = {
        "model.safetensors": lambda path: save_model(path, tiny.build_tiny(), CARD, large),
        "last.ckpt": lambda path: save_checkpoint(path, Checkpoint(1, large, {}, {}, {})),
    }
    filler = disk / "filler"
    filler.write_bytes(bytes(DISK_BYTES - 2**15 if name not in writers else 0))
    with pytest.raises(MachineError, match=f"{name}: no space left on the disk"):
        writers.get(name, export)(disk / name)
    assert list(disk.iterdir()) == [filler]


def test_a_training_whose_disk_is_full_ends_with_how_to_continue_and_continues(disk, capsys, monkeypatch):
    folder = disk / "run"
    words = ["train", "shapes", "--model", "fcn-tiny", "--weights", "none", "--iterations", "3", "--crop", "33"]
    words += ["--batch", "2", "--out", str(folder), "--quiet", "--workers", "0", "--set", "training.validations=3"]
    words += ["--set", "data.options={num_train: 16, num_val: 2, size: 65}"]
    filling = {"filler": disk / "filler"}
    taken = Step.take

    def take(self, batches, number):
        if number == 2 and filling:
            filling["filler"] = fill(disk)
        return taken(self, batches, number)

    monkeypatch.setattr(Step, "take", take)
    assert main(words) == 5
    message, hint, way_on = capsys.readouterr().err.splitlines()
    assert message.endswith(": no space left on the disk (0 MiB free)")
    assert hint == "Free some space, or write to another disk with --out."
    assert way_on == f"Continue with: atrous train --resume {folder}"
    assert not [path for path in folder.rglob("*") if path.name.startswith(".part")]
    filling.pop("filler").unlink()
    assert main(["train", "--resume", str(folder), "--quiet"]) == 0


def test_predictions_on_a_full_disk_end_the_same_way(disk, trained_run, tmp_path, capsys):
    Image.fromarray(np.stack([PIXELS] * 3, axis=-1)).save(tmp_path / "a.png")
    fill(disk)
    assert main(["predict", str(tmp_path / "a.png"), "--model", str(trained_run), "--out", str(disk), "--quiet"]) == 5
    message, hint = capsys.readouterr().err.splitlines()[:2]
    assert "no space left on the disk" in message
    assert "Free some space" in hint
