"""Every write of every command, each made to fail once by a full disk: what is printed, what is left, what continues.

Writes are counted while a command runs undisturbed; then it runs again for each of them, which fails. A file that is
written otherwise than by `atomic_path` is found by tests/house/test_writing.py.
"""

from __future__ import annotations

import errno
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from ruamel.yaml import YAML

from annotated import SAVERS, save_image
from atrous.cli.main import main
from atrous.core import files
from atrous.data.prepare.camvid import CamvidLayout
from atrous.networks.model_file import load_model
from atrous.training.checkpoint import load_checkpoint

TRAINING = ("--model", "fcn-tiny", "--weights", "none", "--iterations", "2", "--crop", "33", "--batch", "2")
VALIDATED = ("--workers", "0", "--set", "training.validations=2")
Words = Callable[[Path, Path, Path], list[str]]
"""From the data, a run and an empty folder to the words of a command that writes into that folder."""


def prepare(data: Path, run: Path, folder: Path) -> list[str]:
    source = folder.parent / "source"
    for split in ("train", "val"):
        for name, mode in ((split, "RGB"), (f"{split}annot", "L")):
            (source / name).mkdir(parents=True, exist_ok=True)
            Image.new(mode, (3, 2)).save(source / name / f"{split}_0.png")
    return ["prepare", "camvid", str(source), "--out", str(folder)]


def convert(data: Path, run: Path, folder: Path) -> list[str]:
    save_image(folder.parent / "in" / "photo.png")
    SAVERS["labelme"](folder.parent / "in", "photo.png")
    return ["convert", str(folder.parent / "in"), "--out", str(folder)]


def check(data: Path, run: Path, folder: Path) -> list[str]:
    copied = folder.parent / "data"
    if not copied.exists():
        shutil.copytree(data, copied)
    (copied / "atrous.yaml").unlink(missing_ok=True)
    return ["check", str(copied), "--out", str(folder / "check.html"), "--write"]


COMMANDS: dict[str, Words] = {
    "train": lambda data, run, folder: ["train", str(data), *TRAINING, *VALIDATED, "--out", str(folder)],
    "preview": lambda data, run, folder: ["train", str(data), *TRAINING, "--preview", "--out", str(folder)],
    "predict": lambda data, run, folder: [
        *("predict", str(data / "images" / "val"), "--model", str(run), "--out", str(folder)),
        *("--format", "ids,overlay,confidence", "--probabilities"),
    ],
    "eval": lambda data, run, folder: [
        "eval",
        str(run),
        str(run / "model.safetensors"),
        str(data),
        "--out",
        str(folder),
    ],
    "export": lambda data, run, folder: ["export", str(run), "--format", "pt2", "--out", str(folder / "model.pt2")],
    "check": check,
    "convert": convert,
    "prepare": prepare,
}
FAILED = 3
"""So many writes of a command are made to fail, spread over them; the slow test takes all."""


class Disk:
    """A disk that is full for one write: the one with the number `failing`, counted from 0.

    Args:
        folder: The folder that it is.
        failing: Which write fails; None: none.
    """

    def __init__(self, folder: Path, failing: int | None) -> None:
        self.folder, self.failing = folder, failing
        self.written: list[str] = []

    def write(self, path: Path) -> None:
        if path.is_dir() or self.folder not in path.parents:
            return
        self.written.append(path.name)
        if len(self.written) - 1 == self.failing:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    @contextmanager
    def mounted(self) -> Iterator[None]:
        sync, opened = files._sync, Path.open

        def open_file(path: Path, mode: str = "r", *args: object, **options: object) -> object:
            if mode[0] in "ax" and not path.name.startswith(".part-"):
                self.write(path)
            return opened(path, mode, *args, **options)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(files, "_sync", lambda path: (self.write(path), sync(path)))
            patch.setattr(Path, "open", open_file)
            yield


def require_whole(folder: Path) -> None:
    """Every file under its final name can be read."""
    for path in folder.rglob("*"):
        assert not path.name.startswith(".part-"), path
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".yaml":
            assert YAML(typ="safe").load(path)
        elif path.suffix in (".png", ".jpg"):
            with Image.open(path) as image:
                image.load()
        elif path.suffix == ".ckpt":
            load_checkpoint(path)
        elif path.name == "model.safetensors":
            load_model(path)
        elif path.suffix == ".html":
            assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
        elif path.suffix == ".pt2":
            with zipfile.ZipFile(path) as archive:
                assert archive.testzip() is None


def fail_at(number: int, build: Words, data: Path, run: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = place / "out"
    disk = Disk(place, number)
    words = build(data, run, folder)
    capsys.readouterr()
    with disk.mounted():
        code = main([*words, "--quiet"])
    err = capsys.readouterr().err
    assert code == 5, (disk.written, err)
    assert "no space left on the disk" in err
    assert "MiB free" in err
    assert "Free some space, or write to another disk with --out." in err
    assert "Traceback" not in err
    require_whole(place)
    if "is not complete: remove it before the next try" in err:
        shutil.rmtree(folder)
    if words[0] == "train" and "--preview" not in words:
        is_begun = (folder / "config.yaml").is_file()
        assert ("Continue with: atrous train --resume" in err) == is_begun
        words = ["train", "--resume", str(folder)] if is_begun else words
    assert main([*words, "--quiet"]) in (0, 1)  # when there is space again
    require_whole(place)


def count_writes(build: Words, data: Path, run: Path, place: Path) -> int:
    disk = Disk(place, None)
    with disk.mounted():
        assert main([*build(data, run, place / "out"), "--quiet"]) in (0, 1)
    return len(disk.written)


@pytest.fixture(autouse=True)
def _small_camvid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atrous.data.prepare.camvid.CAMVID", CamvidLayout({"train": 1, "val": 1}))


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"export"}))  # exports take long
def test_a_write_that_fails_is_reported_and_nothing_is_truncated(name, shapes_folder, trained_run, tmp_path, capsys):
    writes = count_writes(COMMANDS[name], shapes_folder, trained_run, tmp_path / "whole")
    assert writes
    for number in sorted({round(at * (writes - 1) / (FAILED - 1)) for at in range(FAILED)}):
        fail_at(number, COMMANDS[name], shapes_folder, trained_run, tmp_path / str(number), capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_every_write_that_fails_is_reported(name, shapes_folder, trained_run, tmp_path, capsys):
    for number in range(count_writes(COMMANDS[name], shapes_folder, trained_run, tmp_path / "whole")):
        fail_at(number, COMMANDS[name], shapes_folder, trained_run, tmp_path / str(number), capsys)


SHOWN: dict[str, tuple[Words, str, str]] = {
    "eval": (lambda data, run, folder: ["eval", str(run), "--out", str(folder)], "mIoU", "miou"),
    "compare": (COMMANDS["eval"], "against", "comparison"),
    "bench": (
        lambda data, run, folder: [
            *("bench", str(run), "--sizes", "65", "--rounds", "1", "--precisions", "fp32", "--out", str(folder)),
        ],
        "images/s",
        "rows",
    ),
    "probe": (
        lambda data, run, folder: ["train", str(data), *TRAINING, "--probe", "--out", str(folder)],
        "IoU after",
        "verdict",
    ),
    "check": (COMMANDS["check"], "pixels", "findings"),
}
"""Commands that compute long and write at their end, with what they print, and a key of what --json prints."""


@pytest.mark.parametrize("is_json", [False, True])
@pytest.mark.parametrize("name", SHOWN)
def test_what_was_computed_is_shown_though_it_cannot_be_written(
    name, is_json, shapes_folder, trained_run, tmp_path, capsys
):
    build, word, key = SHOWN[name]
    disk = Disk(tmp_path / "full" / "out", 0)
    words = build(shapes_folder, trained_run, disk.folder)
    with disk.mounted():
        assert main([*words, "--quiet", *["--json"] * is_json]) == 5
    out, err = capsys.readouterr()
    assert len(disk.written) == 1
    assert "no space left on the disk" in err
    assert key in json.loads(out) if is_json else word in out
