from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from safetensors.torch import save_file

import atrous
from atrous.core.errors import DataError, MachineError
from atrous.core.files import (
    atomic_path,
    compute_sha256,
    load_json,
    open_deferring,
    remove_temporaries,
    save_json,
    save_text,
    shorten_paths,
)


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "model.bin"
    path.write_text("old")

    def write_half() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["model.bin"]


def test_the_final_name_appears_only_at_the_end(tmp_path):
    path = tmp_path / "below" / "a.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "whole"


@pytest.fixture
def umask():
    """Set the umask of this process for one test."""
    former = os.umask(0o022)
    yield os.umask
    os.umask(former)


@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_threads_that_write_leave_the_umask_and_give_files_its_permissions(tmp_path, umask, mask, mode):
    umask(mask)
    paths = [tmp_path / f"{number}.txt" for number in range(200)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda path: save_text(path, path.name), paths))
    assert os.umask(mask) == mask
    assert {path.stat().st_mode & 0o777 for path in paths} == {mode}
    assert [path.read_text() for path in paths] == [path.name for path in paths]


def test_nobody_sets_the_umask():
    sources = Path(atrous.__file__).parent.rglob("*.py")
    assert [path for path in sources if ".umask(" in path.read_text(encoding="utf-8")] == []


def test_a_writer_that_replaces_the_temporary_file_keeps_the_permissions(tmp_path, umask):
    umask(0o022)
    with atomic_path(tmp_path / "a.bin") as temporary:
        (tmp_path / "own").touch(0o600)
        (tmp_path / "own").replace(temporary)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 == 0o644


def test_two_threads_that_write_one_file_leave_one_of_the_two(tmp_path):
    path = tmp_path / "a.txt"
    texts = [str(number) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: save_text(path, text), texts))
    assert path.read_text() in texts
    assert os.listdir(tmp_path) == ["a.txt"]


def write_by_torch(path: Path) -> None:
    with open_deferring(path) as file:
        torch.save(torch.zeros(2**14), file)


def write_by_numpy(path: Path) -> None:
    with open_deferring(path) as file:
        np.save(file, np.zeros(2**14, dtype=np.float16))


WRITERS = {
    "text": lambda path: path.write_text("x" * 2**15, encoding="utf-8"),
    "torch": write_by_torch,
    "torch itself": lambda path: torch.save(torch.zeros(2**14), path),
    "safetensors": lambda path: save_file({"a": torch.zeros(2**14)}, path),
    "numpy": write_by_numpy,
    "numpy itself": lambda path: np.zeros(2**15).tofile(path),
    "tifffile": lambda path: tifffile.imwrite(path, np.zeros((2**8, 2**8))),
}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_disk_that_takes_no_more_is_one_error_whatever_writes(tmp_path, small_files, write):
    (tmp_path / "a.tif").write_text("old")
    with pytest.raises(MachineError) as caught, atomic_path(tmp_path / "a.tif") as temporary:
        write(temporary)
    assert caught.value.message == f"{tmp_path / 'a.tif'}: larger than a file may be here"
    assert (tmp_path / "a.tif").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.tif"]


def test_an_error_that_is_not_the_disks_stays_as_it_is(tmp_path):
    errors = (RuntimeError("unexpected pos 64 vs 0"), DataError("a.png is broken"), ConnectionResetError(104, "reset"))
    for error in errors:
        with pytest.raises(type(error)) as caught, atomic_path(tmp_path / "last.ckpt"):
            raise error
        assert caught.value is error
    assert os.listdir(tmp_path) == []


def test_an_error_about_the_temporary_file_names_the_final_one(tmp_path):
    with pytest.raises(DataError) as caught, atomic_path(tmp_path / "m.onnx") as temporary:
        raise DataError(f"{temporary}: returned (1, 2), and {temporary.name} says (1, 3)", "Export it again.")
    assert caught.value.message == f"{tmp_path / 'm.onnx'}: returned (1, 2), and m.onnx says (1, 3)"


def test_files_that_were_being_written_at_a_kill_are_removed_and_no_others(tmp_path):
    long_name = "x" * 250 + ".png"
    with atomic_path(tmp_path / long_name) as first, atomic_path(tmp_path / "last.ckpt") as second:
        kept = [".part", ".part-1.png", ".part-1234abcd-old.bin", ".last-1234abcd.ckpt", ".hidden.png", "part-1234abcd"]
        for name in kept:
            (tmp_path / name).touch()
        assert sorted(os.listdir(tmp_path)) == sorted([*kept, first.name, second.name])
        remove_temporaries(tmp_path)
        assert sorted(os.listdir(tmp_path)) == sorted(kept)
        first.touch()
        second.touch()
    remove_temporaries(tmp_path / "nowhere")
    assert (tmp_path / long_name).exists()


def test_json_goes_round_and_refuses_nan(tmp_path):
    path = tmp_path / "a.json"
    save_json(path, {"miou": 0.5, "name": "weiß"})
    assert load_json(path) == {"miou": 0.5, "name": "weiß"}
    with pytest.raises(ValueError, match="Out of range float"):
        save_json(path, {"miou": float("nan")})
    assert load_json(path)["miou"] == 0.5


def test_hash_of_a_file_is_that_of_its_bytes(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"abc" * 100_000)
    assert compute_sha256(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


@pytest.mark.parametrize(
    ("paths", "short"),
    [
        (["runs/a"], ["a"]),
        (["runs/a", "runs/b", "x.onnx"], ["a", "b", "x.onnx"]),
        (["runs/a/best", "runs/b/best"], ["a/best", "b/best"]),
        (["best", "b/best"], ["best", "b/best"]),
    ],
)
def test_paths_are_as_short_as_they_can_be_told_apart(paths: list[str], short: list[str]) -> None:
    assert shorten_paths(paths) == dict(zip(paths, short, strict=True))
