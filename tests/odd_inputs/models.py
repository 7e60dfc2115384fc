"""Odd models: damaged and edited model files, checkpoints and run folders."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from odd_inputs.case import TRAIN, Case, Place

MODEL_FILE = 4


class Owned:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        import os

        return os.system, ("touch owned",)


def opening(name: str, change: Callable[[Path], object], *, says: Sequence[str] = ("model",), **rest: object) -> Case:
    """A copy of a good model file, changed; nothing is labelled with it and nothing in it runs."""

    def lay_out(place: Place) -> list[str]:
        model = place.path / "model.safetensors"
        shutil.copyfile(place.run / "model.safetensors", model)
        change(model)
        place.image("in/a.png")
        return ["predict", "in", "--model", str(model), "--out", "out"]

    return Case(f"model file: {name}", lay_out, MODEL_FILE, says=says, never_makes=("out/*.png", "owned"), **rest)


def cut(path: Path, share: float) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])


def read_header(path: Path) -> tuple[dict, bytes]:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def write_header(path: Path, header: dict | bytes, tensors: bytes) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + tensors)


def edit_card(path: Path, change: Callable[[dict[str, str]], object]) -> None:
    """Change the metadata of a model file."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(metadata)
    save_file(tensors, path, metadata)


def edit_header(path: Path, change: Callable[[dict], object]) -> None:
    header, tensors = read_header(path)
    change(header)
    write_header(path, header, tensors)


def flip_bits(path: Path, count: int) -> None:
    """Flip bits among the tensors."""
    header, tensors = read_header(path)
    changed = bytearray(tensors)
    generator = np.random.default_rng(0)
    for place in generator.integers(0, len(tensors), count):
        changed[place] ^= 1 << int(generator.integers(8))
    write_header(path, header, bytes(changed))


def set_first_tensor(path: Path, value: float) -> None:
    header, tensors = read_header(path)
    changed = bytearray(tensors)
    name = min(key for key, entry in header.items() if key != "__metadata__" and entry["dtype"] == "F32")
    start, _ = header[name]["data_offsets"]
    changed[start : start + 4] = struct.pack("<f", value)
    write_header(path, header, bytes(changed))


def first_tensor(header: dict) -> str:
    return min(key for key in header if key != "__metadata__")


FILES = [
    opening("no bytes", lambda path: path.write_bytes(b""), quick=True),
    opening("a few bytes", lambda path: path.write_bytes(b"\x08\0\0")),
    opening("half of it", lambda path: cut(path, 0.5), quick=True),
    opening("all but the last bytes", lambda path: cut(path, 0.999)),
    opening("text", lambda path: path.write_text("a model")),
    opening("an endless header", lambda path: path.write_bytes(b"\xff" * 8 + path.read_bytes()[8:])),
    opening("a header that is no JSON", lambda path: write_header(path, b"{" * 64, b"")),
    opening("a header of a list", lambda path: write_header(path, b"[]      ", b"")),
    opening("a pickle", lambda path: path.write_bytes(pickle.dumps(Owned())), quick=True),
    opening("a checkpoint of PyTorch", lambda path: torch.save({"a": torch.zeros(3)}, path)),
    opening("a zip", lambda path: zipfile.ZipFile(path, "w").writestr("a", "b")),
    opening("three bits flipped", lambda path: flip_bits(path, 3), quick=True),
    opening("twenty bits flipped", lambda path: flip_bits(path, 20)),
    opening("a value that is no number", lambda path: set_first_tensor(path, float("nan")), quick=True),
    opening("an endless value", lambda path: set_first_tensor(path, float("inf"))),
    opening("another value", lambda path: set_first_tensor(path, 0.125)),
    opening("no card", lambda path: save_file(load_file(path), path)),
    opening("an empty card", lambda path: edit_card(path, lambda card: card.clear())),
    opening("a card that is no JSON", lambda path: edit_card(path, lambda card: card.update(dict.fromkeys(card, "{")))),
    opening(
        "a card of other kinds",
        lambda path: edit_card(path, lambda card: card.update(dict.fromkeys(card, "[1, 2]"))),
        quick=True,
    ),
    opening(
        "a tensor of another name",
        lambda path: edit_header(path, lambda header: header.update(other=header.pop(first_tensor(header)))),
    ),
    opening(
        "a tensor of another shape",
        lambda path: edit_header(path, lambda header: header[first_tensor(header)].update(shape=[1])),
    ),
    opening(
        "a tensor beyond the end",
        lambda path: edit_header(path, lambda header: header[first_tensor(header)].update(data_offsets=[0, 10**12])),
    ),
]


def other_file(name: str, file: str, content: bytes, *, code: int = MODEL_FILE, **rest: object) -> Case:
    def lay_out(place: Place) -> list[str]:
        place.image("in/a.png")
        return ["predict", "in", "--model", str(place.file(file, content)), "--out", "out"]

    return Case(f"model file: {name}", lay_out, code, says=(file,), never_makes=("out/*.png", "owned"), **rest)


def folder(name: str, lay_out: Callable[[Place], Sequence[str]], **rest: object) -> Case:
    return Case(f"model: {name}", lay_out, MODEL_FILE, never_makes=("out/*.png",), **rest)


def predict_with(place: Place, model: object) -> list[str]:
    place.image("in/a.png")
    return ["predict", "in", "--model", str(model), "--out", "out"]


def without(place: Place, name: str) -> Path:
    run = place.copy_run()
    (run / name).unlink()
    return run


OTHER_FILES = [
    other_file("a .pth that runs a command", "odd.pth", pickle.dumps(Owned()), quick=True),
    other_file("a .pth of no bytes", "odd.pth", b""),
    other_file("an .onnx that is text", "odd.onnx", b"graph"),
    other_file("an .onnx of no bytes", "odd.onnx", b"", quick=True),
    other_file("an .xml without its .bin", "odd.xml", b"<?xml version='1.0'?><net name='a' version='11'/>"),
    other_file("a .pt2 that is not trusted", "odd.pt2", b"PK\3\4"),
    other_file("a suffix of nothing known", "odd.tflite", b"x"),
    folder("that is not there", lambda place: predict_with(place, "nowhere"), says=("nowhere",), quick=True),
    folder("a file that is not there", lambda place: predict_with(place, "no.safetensors"), says=("no.safetensors",)),
    folder("an empty folder", lambda place: predict_with(place, place.path / "in"), says=("in",), quick=True),
    folder("a run without its model", lambda place: predict_with(place, without(place, "model.safetensors"))),
    folder("an empty name", lambda place: predict_with(place, "")),
]


def resuming(
    name: str, change: Callable[[Path], object], code: int = MODEL_FILE, *, says: Sequence[str] = (), **rest: object
) -> Case:
    """A copy of a finished run, changed and resumed; its model and its scores stay."""

    def lay_out(place: Place) -> list[str]:
        run = place.copy_run()
        change(run)
        return ["train", "--resume", str(run), "--quiet"]

    changes = ("run/log.txt", "run/.*") if code else ("run/*", "run/*/*")
    return Case(f"resume: {name}", lay_out, code, says=says, changes=changes, **rest)


def edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


CHECKPOINTS = [
    resuming("nothing changed", lambda run: None, 0),
    resuming("no checkpoint", lambda run: (run / "last.ckpt").unlink(), says=("last.ckpt",)),
    resuming(
        "a checkpoint of no bytes", lambda run: (run / "last.ckpt").write_bytes(b""), says=("last.ckpt",), quick=True
    ),
    resuming("half a checkpoint", lambda run: cut(run / "last.ckpt", 0.5), says=("last.ckpt", r"model\.safetensors")),
    resuming(
        "a checkpoint that runs a command",
        lambda run: (run / "last.ckpt").write_bytes(pickle.dumps(Owned())),
        says=("last.ckpt",),
        never_says=("weights_only",),
        never_makes=("owned",),
        quick=True,
    ),
    resuming(
        "a checkpoint of something else", lambda run: torch.save({"a": 1}, run / "last.ckpt"), says=("last.ckpt",)
    ),
    resuming(
        "settings edited",
        lambda run: edit(run / "config.yaml", lambda text: text.replace("lr: 0.3", "lr: 0.2")),
        2,
        says=("training.lr",),
        quick=True,
    ),
    resuming(
        "settings that are no YAML", lambda run: (run / "config.yaml").write_text("a: [\n"), 2, says=("config.yaml",)
    ),
    resuming("settings of no bytes", lambda run: (run / "config.yaml").write_text(""), 2),
    resuming(
        "settings of another version",
        lambda run: edit(run / "config.yaml", lambda t: t.replace("version: 2", "version: 9")),
        2,
    ),
    resuming("no settings", lambda run: (run / "config.yaml").unlink(), 2, says=("config.yaml",), quick=True),
    resuming("scores that are no JSON", lambda run: (run / "metrics.json").write_text("{"), 0),
]


def scoring(place: Place) -> list[str]:
    run = place.copy_run()
    (run / "metrics.json").write_text("[]")
    return ["eval", str(run)]


RUNS = [
    Case(
        "a run as weights",
        lambda place: (
            place.copy_data(),
            ["train", "data", *_without_weights(), "--weights", str(place.run), "--out", "new"],
        )[1],
        0,
        makes=("new/metrics.json",),
    ),
    Case("eval a run whose scores are damaged", scoring, 0, says=("IoU",)),
]


def _without_weights() -> list[str]:
    words = list(TRAIN)
    place = words.index("--weights")
    return words[:place] + words[place + 2 :]


CASES = [*FILES, *OTHER_FILES, *CHECKPOINTS, *RUNS]
