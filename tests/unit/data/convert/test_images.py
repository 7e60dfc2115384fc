from __future__ import annotations

import unicodedata

import pytest

from annotated import save_image
from atrous.data.convert.images import ImageFinder


@pytest.fixture
def finder(tmp_path):
    for name in ("a/photo.png", "b/photo.png", "b/other.jpg", "c/é.png"):
        save_image(tmp_path / name)
    return ImageFinder([tmp_path])


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("other.jpg", ["b/other"]),
        ("../../b/other.jpg", ["b/other"]),
        ("C:\\Users\\me\\x\\other.jpg", ["b/other"]),
        ("/mnt/me/a/photo.png", ["a/photo"]),
        ("photo.png", ["a/photo", "b/photo"]),
        (unicodedata.normalize("NFD", "é.png"), ["c/é"]),
        ("https://host/x/b/%6fther.jpg?token=1#a", ["b/other"]),
        ("file:///c%3A/%C3%A9.png", ["c/é"]),
        ("http://[broken/other.jpg", ["b/other"]),
        ("other.png", []),
        ("", []),
        ("..", []),
        ("/", []),
        ("\0", []),
    ],
)
def test_an_image_is_found_by_the_end_of_its_path(finder, text, keys):
    assert [finder.get_key(path) for path in finder.find(text)] == keys


def test_an_image_beside_its_annotation_is_preferred(finder, tmp_path):
    assert finder.find("photo.png", tmp_path / "b") == [tmp_path / "b" / "photo.png"]


def test_what_is_outside_is_not_found(tmp_path):
    save_image(tmp_path / "secret.png")
    save_image(tmp_path / "source" / "photo.png")
    assert ImageFinder([tmp_path / "source"]).find("../secret.png") == []
