"""What an odd input is: how it is laid out, which command meets it, and what has to come of it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

import tiny
from atrous.cli.main import main
from tiny import RUN_OPTIONS

TEMPORARY = re.compile(r"\..*-[0-9a-f]{8}(\.\w+)?")
"""Names of files that are being written, which must not stay."""
TRAIN = tuple(word for word in RUN_OPTIONS)
SECONDS = 120


@dataclass(frozen=True)
class Place:
    """A folder of its own for a case, which is its working folder too.

    Args:
        path: The folder.
        run: A finished run, shared by all cases: copy it before changing it.
        data: The folder of images and masks that it was trained on, shared too.
    """

    path: Path
    run: Path
    data: Path

    def image(self, name: str, size: tuple[int, int] = (40, 30), mode: str = "RGB", **options: object) -> Path:
        """Write an image of noise.

        Args:
            name: Its file, below this folder.
            size: Width and height.
            mode: Pillow's mode.
            options: Pillow's options of writing.
        """
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_noise(size, mode).save(path, **options)
        return path

    def file(self, name: str, content: bytes | str = b"") -> Path:
        """Write a file below this folder."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def copy_run(self, name: str = "run") -> Path:
        """Copy the finished run."""
        return Path(shutil.copytree(self.run, self.path / name))

    def copy_data(self, name: str = "data") -> Path:
        """Copy the folder of images and masks."""
        return Path(shutil.copytree(self.data, self.path / name))

    def predict(self, *words: object) -> list[str]:
        """Return the command that labels `in/` into `out/`."""
        inputs = [] if words and not str(words[0]).startswith("-") else ["in"]
        return ["predict", *inputs, *map(str, words), "--model", str(self.run), "--out", "out"]

    def train(self, *words: object) -> list[str]:
        """Return the command that trains a tiny network on `data/` into `new/`."""
        data = [] if words and not str(words[0]).startswith("-") else ["data"]
        return ["train", *data, *TRAIN, *map(str, words), "--out", "new"]


def draw_noise(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    """Return an image of noise, the same at each call."""
    generator = np.random.default_rng(0)
    width, height = size
    noise = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
    if mode == "I;16":
        return Image.fromarray(generator.integers(0, 65536, (height, width), dtype=np.uint16))
    return noise.convert(mode)


@dataclass(frozen=True)
class Case:
    """An odd input and its right outcome.

    Args:
        name: What is odd about it.
        lay_out: Lays out the files and returns the words of the command line after `atrous`.
        code: The exit code, or the codes that are all right.
        says: Regular expressions, each of which the output contains.
        never_says: Regular expressions that the output does not contain.
        makes: Patterns of files, each of which exists afterwards.
        never_makes: Patterns of files that do not exist afterwards.
        environment: Variables of the process; None removes one. With any the command runs in a process of its own.
        wrap: Words before the command, such as `unshare --mount`, with a process of its own.
        signals: Signals for that process, each with what has to be true before it is sent.
        changes: Patterns of files that the command may change; all others keep their bytes.
        quick: Whether `make test` has it.
        needs: Returns a reason to skip the case on this machine, or nothing.
    """

    name: str
    lay_out: Callable[[Place], Sequence[str | Path]]
    code: int | tuple[int, ...]
    says: Sequence[str] = ()
    never_says: Sequence[str] = ()
    makes: Sequence[str] = ()
    never_makes: Sequence[str] = ()
    environment: Mapping[str, str | None] = field(default_factory=dict)
    wrap: Sequence[str] = ()
    signals: Sequence[tuple[signal.Signals, Callable[[Place], bool]]] = ()
    changes: Sequence[str] = ()
    quick: bool = False
    needs: Callable[[], str] | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a command: its exit code and all that it printed."""

    code: int
    text: str


def carry_out(case: Case, words: Sequence[str], place: Place) -> Outcome:
    """Run the command of a case in its place, in this process where that is the same."""
    if case.environment or case.wrap or case.signals:
        return _run_process(case, words, place)
    printed = io.StringIO()
    with contextlib.chdir(place.path), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = main(words)
    return Outcome(code, printed.getvalue())


def _run_process(case: Case, words: Sequence[str], place: Place) -> Outcome:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **case.environment}
    with (place.path.parent / "printed.txt").open("w+b") as printed:
        process = subprocess.Popen(
            [*case.wrap, sys.executable, tiny.__file__, *words],
            cwd=place.path,
            env={name: value for name, value in environment.items() if value is not None},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
        try:
            for number, is_due in case.signals:
                deadline = time.monotonic() + SECONDS
                while not is_due(place) and process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.01)
                process.send_signal(number)
            code = process.wait(SECONDS)
        finally:
            process.kill()
        printed.seek(0)
        return Outcome(code, printed.read().decode("utf-8", "replace"))


def read_files(folder: Path) -> dict[str, bytes]:
    """Return the content of all plain files in a folder by path; links and devices are not followed."""
    found = {}
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root) / name
            if path.is_file() and not path.is_symlink():
                found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found
