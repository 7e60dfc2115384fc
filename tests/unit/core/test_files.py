from __future__ import annotations

import hashlib
import os

import pytest

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


def test_permissions_are_those_of_an_ordinary_file(tmp_path):
    (tmp_path / "ordinary").write_text("")
    save_text(tmp_path / "atomic", "")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


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
