from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

from atrous.core.errors import DataError
from atrous.core.findings import require_no_errors
from atrous.core.labels import IGNORE_INDEX, LabelSpace
from atrous.data.checks.survey import Survey, run_checks
from atrous.data.datasets.shapes import build_shapes
from atrous.data.inventory import Pair
from atrous.data.joined import JoinedDataset
from atrous.data.pairs import PairDataset, find_pairs
from atrous.data.samples import find_group_name
from atrous.data.split import Grouping
from atrous.images.windows import Window


def save(path, array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)


def test_pairs_follow_names_not_listing_order(tmp_path):
    # sorted by file name, a.bmp comes before a.c.JPG, but a.c.png before a.png
    for number, name in enumerate(["b.JPG", "a.bmp", "sub/a.JPG", "a.c.JPG"]):
        save(tmp_path / "images" / name, np.full((2, 2, 3), number))
        save(tmp_path / "masks" / f"{name[:-4]}.png", np.full((2, 2), number))
    (tmp_path / "images" / "._a.jpg").write_bytes(b"left by a file manager")
    (tmp_path / "images" / "Thumbs.db").write_bytes(b"")

    found, inventories = find_pairs({"all": ("", tmp_path / "images", tmp_path / "masks")})
    pairs = found["all"]
    skipped = [finding.message for finding in run_checks(Survey(inventories=inventories))]

    assert [pair.key for pair in pairs] == ["a", "a.c", "b", "sub/a"]
    assert any("1 hidden file skipped" in line and "._a.jpg" in line for line in skipped)
    assert any("1 other file skipped" in line and "Thumbs.db" in line for line in skipped)
    space = LabelSpace(("w", "x", "y", "z"))
    dataset = PairDataset("mine", space, pairs)
    for index in range(4):
        sample = dataset.get(index)
        assert (abs(sample.image.astype(int) - int(sample.labels[0, 0])) <= 1).all()  # JPEG
        assert dataset.image_path(index).with_suffix("").name == dataset.mask_path(index).with_suffix("").name


def test_everything_that_does_not_pair_is_listed_at_once(tmp_path):
    for name in ("ok", "alone", "twice"):
        save(tmp_path / "images" / f"{name}.jpg", np.zeros((2, 2, 3)))
    save(tmp_path / "images" / "twice.png", np.zeros((2, 2, 3)))
    for name in ("ok", "orphan", "twice", "sub/alone"):
        save(tmp_path / "masks" / f"{name}.png", np.zeros((2, 2)))
    _, inventories = find_pairs(
        {"a": ("", tmp_path / "images", tmp_path / "masks"), "b": ("val/", tmp_path / "v", tmp_path / "w")}
    )
    with pytest.raises(DataError) as caught:
        require_no_errors(run_checks(Survey(inventories=inventories)))
    message = caught.value.message
    assert "twice.jpg and " in message
    assert "1 image without a mask" in message
    assert "alone.jpg" in message
    assert "2 masks without an image" in message
    assert "orphan.png" in message
    assert "sub/alone.png" in message
    assert "no pairs in" in message


def test_size_mismatch_names_both_files_and_sizes(tmp_path):
    save(tmp_path / "a.png", np.zeros((4, 6, 3)))
    save(tmp_path / "m.png", np.zeros((4, 5)))
    dataset = PairDataset("mine", LabelSpace(("x",)), (Pair("a", str(tmp_path / "a.png"), str(tmp_path / "m.png")),))
    with pytest.raises(DataError, match=r"a\.png is 4x6 .*m\.png is 4x5") as caught:
        dataset.get(0)
    assert "never resized" in caught.value.hint


def test_id_outside_the_classes_names_file_value_and_count(tmp_path):
    save(tmp_path / "a.png", np.zeros((4, 6, 3)))
    ids = np.zeros((4, 6))
    ids[0, :3] = 9
    save(tmp_path / "m.png", ids)
    dataset = PairDataset("mine", LabelSpace(("x",)), (Pair("a", str(tmp_path / "a.png"), str(tmp_path / "m.png")),))
    with pytest.raises(DataError, match=r"m\.png: .*9 \(3 pixels\)"):
        dataset.get(0)


def test_labels_are_indices_and_the_data_set_pickles(tmp_path):
    save(tmp_path / "a.png", np.zeros((1, 3, 3)))
    save(tmp_path / "m.png", [[7, 40, 255]])
    space = LabelSpace(("x", "y"), ids=(7, 40))
    dataset = PairDataset("mine", space, (Pair("a", str(tmp_path / "a.png"), str(tmp_path / "m.png")),))
    for copy in (dataset, pickle.loads(pickle.dumps(dataset))):
        np.testing.assert_array_equal(copy.get(0).labels, [[0, 1, IGNORE_INDEX]])
        np.testing.assert_array_equal(copy.mask(0), [[7, 40, 255]])


def test_a_pair_knows_its_clip_and_a_part_of_a_file_its_file(tmp_path):
    space = LabelSpace(("w", "x"))
    window = Window(0, 0, 5, 5, (10, 10))
    pairs = (
        Pair("val/clip1_0001", "a.png", "a.png"),
        Pair("val/clip2_0001", "b.png", "b.png"),
        Pair("alone", "c.png", "c.png"),
        Pair(f"large{window.label}", "d.tif", "d.tif", window),
    )
    dataset = PairDataset("mine", space, pairs, grouping=Grouping("^(.+?)_", ("train", "val")))
    assert [find_group_name(dataset, index) for index in range(4)] == ["clip1", "clip2", None, "large"]
    joined = JoinedDataset("both", [dataset, PairDataset("other", space, (Pair("x_1", "e.png", "e.png"),))])
    assert [find_group_name(joined, index) for index in range(5)] == ["clip1", "clip2", None, "large", None]
    assert find_group_name(build_shapes(num_train=1, num_val=1, size=65).train, 0) is None
