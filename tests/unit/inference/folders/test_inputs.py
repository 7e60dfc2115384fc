from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from atrous.core.errors import UsageError
from atrous.inference.folders.inputs import convert_image, find_all_images, find_images, require_safe_output


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def require(source: Path | str, output: Path, **options: bool) -> None:
    require_safe_output([source], find_images(source), output, **options)


def test_a_folder_gives_its_images_in_order_with_sub_folders_and_nothing_else(tmp_path: Path) -> None:
    touch(tmp_path, "b.jpg", "a.PNG", "notes.txt", "sub/deep/c.v2.jpeg", ".hidden.png", ".thumbs/x.png")
    assert [file.key for file in find_images(tmp_path)] == ["a", "b", "sub/deep/c.v2"]


def test_a_glob_keeps_folders_below_its_first_wildcard(tmp_path: Path) -> None:
    touch(tmp_path, "one/a.jpg", "two/deep/b.jpg", "two/c.txt")
    assert [file.key for file in find_images(f"{tmp_path}/**/*.jpg")] == ["one/a", "two/deep/b"]
    assert [file.key for file in find_images(f"{tmp_path}/one/*.jpg")] == ["a"]


def test_a_file_is_taken_by_its_stem_whatever_brackets_are_in_it(tmp_path: Path) -> None:
    touch(tmp_path, "photo[1].jpg")
    assert [file.key for file in find_images(tmp_path / "photo[1].jpg")] == ["photo[1]"]


def test_a_link_that_leads_nowhere_is_one_of_the_images(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "b.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "c.jpg").symlink_to(tmp_path / "c.jpg")
    (tmp_path / "notes.txt").symlink_to(tmp_path / "gone.txt")
    for source in (tmp_path, f"{tmp_path}/*.jpg", f"{tmp_path}/**/*.jpg"):
        assert [file.key for file in find_images(source)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "words"), [("missing.jpg", "no such file"), ("*.jpg", "no file matches"), ("", "no images in")]
)
def test_nothing_found_is_refused_in_words(tmp_path: Path, name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        find_images(tmp_path / name)


def test_two_inputs_with_one_name_are_refused_by_their_names(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.jpg", "in/a.png", "in/sub/a.jpg")
    with pytest.raises(UsageError, match=r"a\.jpg and .*a\.png"):
        require(tmp_path / "in", tmp_path / "out")


def test_a_name_that_another_images_confidence_would_have_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.jpg", "in/a_confidence.jpg")
    require(tmp_path / "in", tmp_path / "out")
    with pytest.raises(UsageError, match="would both"):
        require(tmp_path / "in", tmp_path / "out", confidence=True)


@pytest.mark.parametrize("output", ["in", "in/out", "in/../in", "in/sub"])
def test_an_output_in_the_input_folder_is_refused(tmp_path: Path, output: str) -> None:
    touch(tmp_path, "in/sub/a.jpg")
    for source in (tmp_path / "in", f"{tmp_path}/in/**/*.jpg"):
        with pytest.raises(UsageError, match="output folder"):
            require(source, tmp_path / output)
    require(tmp_path / "in", tmp_path / "inside")  # a name that only begins alike


def test_a_file_may_be_labelled_into_a_folder_beside_it_but_not_into_its_own(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    require(tmp_path / "a.png", tmp_path / "out")
    with pytest.raises(UsageError, match="is that of the input"):
        require(tmp_path / "a.png", tmp_path)


def test_a_mirrored_sub_folder_does_not_overwrite_an_input(tmp_path: Path) -> None:
    touch(tmp_path, "data/data/a.png", "data/a.png")
    with pytest.raises(UsageError, match="output folder"):
        require_safe_output([tmp_path], find_images(tmp_path), tmp_path / "data")
    nested = [file for file in find_images(tmp_path) if file.key == "data/a"]
    with pytest.raises(UsageError, match="is that of the input"):
        require_safe_output([], nested, tmp_path)


def test_images_in_memory_become_the_same_array() -> None:
    array = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    for value in (array, Image.fromarray(array), tensor, tensor / 255, (tensor / 255).double()):
        np.testing.assert_array_equal(convert_image(value).image, array)


@pytest.mark.parametrize(
    "value",
    [
        np.zeros((4, 5, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
        torch.zeros(4, 5, 3, dtype=torch.int64),
        torch.zeros(1, 4, 5),
        3,
        None,
    ],
)
def test_other_things_are_refused(value: object) -> None:
    with pytest.raises(UsageError, match=r"cannot read an? "):
        convert_image(value)


@pytest.mark.parametrize("most", [255.0, float("nan")])
def test_floats_outside_0_to_1_are_refused(most: float) -> None:
    with pytest.raises(UsageError, match=r"\[0, 1\]"):
        convert_image(torch.full((3, 4, 5), most))


def test_a_file_that_several_sources_name_is_one_image(tmp_path, monkeypatch):
    folder = tmp_path / "d" / "sub"
    folder.mkdir(parents=True)
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(b"")
    (folder / "link.png").symlink_to("a.png")
    (tmp_path / "other").symlink_to(tmp_path / "d")
    (tmp_path / "a.png").symlink_to(folder / "a.png")
    monkeypatch.chdir(tmp_path)
    whole = ["a", "b", "link"]
    for sources, keys in (
        (["d/sub/a.png", "d/sub/a.png"], ["a"]),
        (["d/sub/a.png", str(folder / "a.png"), "d/../d/sub/a.png"], ["a"]),
        (["d/sub/*.png", "d/sub"], whole),
        (["d/sub", "other/sub"], whole),
        (["d/sub/b.png", "d"], ["b", "sub/a", "sub/link"]),
        (["d/sub/a.png", "a.png"], ["a"]),
    ):
        assert [image.key for image in find_all_images(sources)] == keys, sources


def test_different_files_of_one_name_stay_refused(tmp_path):
    files = [tmp_path / name / "a.png" for name in ("x", "y")]
    for file in files:
        file.parent.mkdir()
        file.write_bytes(b"")
    with pytest.raises(UsageError, match="would both be written"):
        require_safe_output(files, find_all_images(files), tmp_path / "out")
