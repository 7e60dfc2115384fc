"""A file with weights that has changed since it was written is refused, whatever its format and whoever opens it."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import atrous
from atrous.core.errors import ModelFileError
from atrous.core.run_folder import CHECKPOINT_NAME, MODEL_NAME
from atrous.core.seal import SEAL_KEY, draw_seal, find_damaged_member, require_sealed, seal_files
from atrous.networks.weights import load_state
from atrous.training.checkpoint import load_checkpoint
from tiny import build_tiny

pytestmark = pytest.mark.filterwarnings("ignore:.*")  # the exporters' own


def open_exported(path: Path) -> object:
    return atrous.load(path, trust=True)


KINDS: dict[str, Callable[[Path], object]] = {
    MODEL_NAME: atrous.load,
    CHECKPOINT_NAME: load_checkpoint,
    "state.pth": load_state,
    "logits.onnx": open_exported,
    "logits.pt2": open_exported,
    "logits.xml": open_exported,
    "logits.bin": lambda path: open_exported(path.with_suffix(".xml")),
}
"""Every kind of file that holds weights, by its name, with what opens it."""


@pytest.fixture
def written(
    request: pytest.FixtureRequest, trained_run: Path, export_tiny: Callable[..., Path], tmp_path: Path
) -> tuple[Path, Callable[[Path], object]]:
    """A copy of a file of one kind, and what opens it."""
    name = request.param
    path = tmp_path / name
    if name == "state.pth":
        torch.save(build_tiny().state_dict(), path)
    elif name.startswith("logits"):
        source = export_tiny({"onnx": "onnx", "pt2": "pt2"}.get(path.suffix[1:], "openvino"))
        for file in source.parent.glob("logits.*"):
            shutil.copy(file, tmp_path)
    else:
        shutil.copy(trained_run / name, path)
    return path, KINDS[name]


def flip_bits(path: Path, places: np.ndarray) -> None:
    content = bytearray(path.read_bytes())
    for place in places:
        content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)


@pytest.mark.parametrize("written", KINDS, indirect=True)
def test_flipped_bits_are_found(written: tuple[Path, Callable[[Path], object]]) -> None:
    path, load = written
    load(path)
    whole = path.read_bytes()
    for seed in range(3):
        flip_bits(path, np.random.default_rng(seed).integers(0, 8 * len(whole), 20))
        with pytest.raises(ModelFileError, match=r"has changed|damaged|cannot be (read|opened)|not written by atrous"):
            load(path)
        path.write_bytes(whole)
    load(path)


@pytest.mark.parametrize("written", [MODEL_NAME, "logits.onnx", "logits.bin"], indirect=True)
def test_a_single_bit_of_the_weights_is_enough(written: tuple[Path, Callable[[Path], object]]) -> None:
    path, load = written
    flip_bits(path, np.array([8 * (path.stat().st_size // 2)]))
    with pytest.raises(ModelFileError, match=f"{path.name}: has changed since it was written") as caught:
        load(path)
    assert SEAL_KEY in caught.value.hint
    assert caught.value.exit_code == 4


def test_a_changed_checkpoint_names_the_best_weights(trained_run: Path, tmp_path: Path) -> None:
    for name in (MODEL_NAME, CHECKPOINT_NAME):
        shutil.copy(trained_run / name, tmp_path)
    path = tmp_path / CHECKPOINT_NAME
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
    flip_bits(path, np.array([8 * (largest.header_offset + largest.file_size)]))
    with pytest.raises(ModelFileError, match=f"{CHECKPOINT_NAME}: has changed since it was written") as caught:
        load_checkpoint(path)
    assert f"--weights {tmp_path / MODEL_NAME}" in caught.value.hint


def test_a_file_without_a_seal_opens(tmp_path: Path) -> None:
    require_sealed([tmp_path / "not read"], None)
    (tmp_path / "text").write_text("no archive")
    assert find_damaged_member(tmp_path / "text") is None
    legacy = io.BytesIO()
    torch.save({"weight": torch.ones(2)}, legacy, _use_new_zipfile_serialization=False)
    (tmp_path / "legacy.pth").write_bytes(legacy.getvalue())
    assert list(load_state(tmp_path / "legacy.pth")) == ["weight"]


def test_a_seal_covers_all_files_that_belong_together(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("first", "second", "third")]
    drawn = draw_seal()
    for path in paths:
        path.write_bytes(b"weights")
    paths[0].write_bytes(f"{{sha256: {drawn}}}".encode())
    seal_files(paths, drawn)
    seal = paths[0].read_text()[9:-1]
    assert seal != drawn
    require_sealed(paths, seal)
    for path in paths[1:]:
        path.write_bytes(b"Weights")
        with pytest.raises(ModelFileError, match=r"first or .*second or .*third: has changed"):
            require_sealed(paths, seal)
        path.write_bytes(b"weights")
