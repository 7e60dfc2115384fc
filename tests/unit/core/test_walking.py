from __future__ import annotations

from pathlib import Path

from atrous.core.walking import walk_folder


def test_links_are_followed_once_and_never_in_a_loop(tmp_path):
    for name in ("data/a", "data/.hidden", "other/b/c"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "file").touch()
    links = {
        "data/out": "other",
        "data/again": "other/b",  # a part of `out`, which comes later: what is listed already is not listed again
        "data/self": "data",
        "data/up": ".",
        "data/inside": "data/a",
        "other/b/back": "data",
        "data/.dot": "other",
    }
    for name, target in links.items():
        (tmp_path / name).symlink_to(tmp_path / target)
    told: dict[str, bool] = {}
    walked = list(
        walk_folder(
            tmp_path / "data", on_link=lambda path, ok: told.update({str(path.relative_to(tmp_path / "data")): ok})
        )
    )
    files = {str(Path(folder, name).relative_to(tmp_path / "data")) for folder, _, names in walked for name in names}
    assert files == {"a/file", "again/c/file"}
    assert told == {
        **{"again": True, "again/back": False, "inside": False, "out": False, "self": False, "up": False},
    }
    assert [name for name in walked[0][1] if name.startswith(".")] == [".dot", ".hidden"]


def test_a_folder_that_cannot_be_listed_is_reported(tmp_path):
    errors: list[OSError] = []
    assert list(walk_folder(tmp_path / "gone", on_error=errors.append)) == []
    assert isinstance(errors[0], FileNotFoundError)
