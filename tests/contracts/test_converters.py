"""What every entry of CONVERTERS must keep: its scene comes out, and hostile files end in problems or one error."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest

import atrous
from annotated import MERGED, NEVER_GUESSED, SAVERS, draw_scene, read_names, save_image
from atrous.core.errors import DataError
from atrous.data import CONVERTERS
from atrous.data.convert.contracts import Conversion
from atrous.data.convert.guess import guess_format
from atrous.data.datasets.folder import build_folder

NAMES = ["../../secret.png", "..\\..\\secret.png", "/etc/passwd", "photo.png/../../../secret.png", "\0", "", "a" * 5000]
ODD = [None, [], {}, "x", True, -1, 1e300, float("nan"), [[1]], {"a": [1]}, 10**400]
BROKEN = [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"a":' * 100_000, b"<a>", b"null", b"[[1]]", b'{"images": {}}']


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "deep" / "source"
    save_image(folder / "photo.png")
    return folder


def try_to_convert(source: Path, out: Path, name: str) -> Conversion | None:
    """Convert, where what cannot be converted is one error."""
    try:
        return atrous.convert(source, out, from_format=name, progress=False)
    except DataError:
        return None


def test_every_format_has_a_scene() -> None:
    assert set(SAVERS) == set(CONVERTERS)


@pytest.mark.parametrize("name", list(CONVERTERS))
def test_the_scene_comes_out_with_background_as_0_and_the_bytes_of_its_image(name: str, source: Path) -> None:
    SAVERS[name](source, "photo.png")
    out = source.parent / "out"
    if name not in NEVER_GUESSED:
        assert guess_format(source) == name
    result = atrous.convert(source, out, from_format=name, progress=False)
    expected = draw_scene(**MERGED.get(name, {}))
    assert (result.problems, result.images, result.overlapping_px) == ((), 1, 0)
    assert (read_names(out) == expected).all()
    names = dict(zip(result.label_space.ids, result.label_space.names, strict=True))
    assert names == dict(enumerate(["background", *(["object"] if name in MERGED else ["cat", "dog"])]))
    assert (out / "images" / "photo.png").read_bytes() == (source / "photo.png").read_bytes()
    assert json.loads((out / "conversion.json").read_text(encoding="utf-8"))["problems"] == []


@pytest.mark.parametrize("name", list(CONVERTERS))
def test_a_dry_run_reads_the_same_and_writes_nothing(name: str, source: Path) -> None:
    SAVERS[name](source, "photo.png")
    before = sorted(source.parent.rglob("*"))
    result = atrous.convert(source, source.parent / "out", from_format=name, dry_run=True, progress=False)
    assert (result.images, result.folder) == (1, None)
    assert sorted(source.parent.rglob("*")) == before


@pytest.mark.parametrize("name", ["labelme", "coco", "cvat", "geojson"])
def test_images_that_no_annotation_names_are_counted(name: str, source: Path) -> None:
    SAVERS[name](source, "photo.png")
    save_image(source / "other" / "stranger.png")
    result = atrous.convert(source, source.parent / "out", from_format=name, progress=False)
    assert "images-not-annotated" in {note.code for note in result.notes}
    assert result.images == 1


@pytest.mark.parametrize("name", list(CONVERTERS))
def test_an_empty_source_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="nothing to convert") as caught:
        atrous.convert(tmp_path / "empty", tmp_path / "out", from_format=name, progress=False)
    assert caught.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
@pytest.mark.parametrize("name", list(CONVERTERS))
def test_a_broken_file_is_a_problem_or_one_error(name: str, content: bytes, source: Path) -> None:
    file = SAVERS[name](source, "photo.png")
    file.write_bytes(content)
    result = try_to_convert(source, source.parent / "out", name)
    if result is not None and content:
        assert result.problems or result.label_space.num_classes == 1


@pytest.mark.parametrize("image", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize("name", list(CONVERTERS))
def test_a_hostile_path_leads_nowhere(name: str, image: str, source: Path) -> None:
    secret = save_image(source.parent.parent / "secret.png", 30, 30)
    try:
        SAVERS[name](source, image)
    except (OSError, ValueError):
        pytest.skip("no file can have this name, and the format pairs by names of files")
    outside = {path for path in source.parent.parent.rglob("*") if path.is_file()}
    out = source.parent / "out"
    try_to_convert(source, out, name)
    written = {path for path in source.parent.parent.rglob("*") if path.is_file()} - outside
    assert all(out in path.parents for path in written)
    assert all(path.read_bytes() != secret.read_bytes() for path in written)


@pytest.mark.parametrize("name", list(CONVERTERS))
def test_an_annotation_file_that_cannot_be_read_is_a_problem_or_one_error(name: str, source: Path) -> None:
    file = SAVERS[name](source, "photo.png")
    file.chmod(0)
    if os.access(file, os.R_OK):  # as root
        file.unlink()
        file.symlink_to(file.name)
    try_to_convert(source, source.parent / "out", name)


@pytest.mark.parametrize("name", list(CONVERTERS))
def test_an_image_of_another_size_is_a_problem_or_is_annotated_relatively(name: str, source: Path) -> None:
    SAVERS[name](source, "photo.png")
    save_image(source / "photo.png", 20, 24)
    result = try_to_convert(source, source.parent / "out", name)
    assert result is None or result.problems or (read_names(source.parent / "out")[::2, ::2] == draw_scene()).all()


def list_places(value: object, place: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the way to every value in a JSON file."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(below for key, part in items for below in list_places(part, (*place, key)))]


@pytest.mark.parametrize("name", ["labelme", "coco", "geojson", "label-studio"])
def test_values_of_another_type_are_problems_or_one_error(name: str, source: Path) -> None:
    file = SAVERS[name](source, "photo.png")
    text = file.read_text(encoding="utf-8")
    for number, (*above, last) in enumerate(list_places(json.loads(text))[1:]):
        content = part = json.loads(text)
        for key in above:
            part = part[key]
        part[last] = ODD[number % len(ODD)]
        file.write_text(json.dumps(content), encoding="utf-8")
        with suppress(DataError):
            atrous.convert(source, source.parent / "out", from_format=name, dry_run=True, progress=False)


@pytest.mark.parametrize("name", ["labelme", "coco", "cvat", "label-studio", "yolo"])
def test_who_trains_on_annotations_is_given_the_command_that_converts_them(name: str, source: Path) -> None:
    SAVERS[name](source, "photo.png")
    with pytest.raises(DataError) as caught:
        build_folder(source)
    assert f"`atrous convert {source} --from {name} --out FOLDER`" in caught.value.hint
