from __future__ import annotations

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import atrous
from atrous.core.errors import MachineError
from atrous.core.files import atomic_path, compute_sha256, load_json, save_json, save_text, shorten_paths


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


def test_a_write_that_fails_on_a_full_disk_says_so(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    for free, kind in ((usage.free, RuntimeError), (0, MachineError)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: usage._replace(free=free))
        with pytest.raises(kind) as caught, atomic_path(tmp_path / "last.ckpt"):
            raise RuntimeError("unexpected pos 64 vs 0")  # how torch.save puts it
    assert str(caught.value).startswith(f"{tmp_path / 'last.ckpt'}: no space left on the disk\nFree some space")
    assert os.listdir(tmp_path) == []


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
