"""Images that are in both splits are found by their content, whatever the kind of data and the names."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.config.load import load_config
from atrous.config.schema import DataConfig
from atrous.core.errors import DataError
from atrous.core.labels import LabelSpace
from atrous.core.records import Sample
from atrous.core.split_options import SplitOptions
from atrous.data.build import build_splits, check_training_data, compute_fingerprint, read_splits
from atrous.data.digests import find_shared_files
from atrous.data.facts_cache import FactsCache
from atrous.runs.plan import plan_training

SIDE = 6


def save_pair(root: Path, split: str, name: str, seed: int) -> Path:
    generator = np.random.default_rng(seed)
    for kind, shape, most in (("images", (SIDE, SIDE, 3), 256), ("masks", (SIDE, SIDE), 2)):
        path = root / kind / split / f"{name}.bmp"  # not compressed: all files have one size
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, most, shape, dtype=np.uint8)).save(path)
    return root / "images" / split / f"{name}.bmp"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, split in enumerate(("train", "train", "val", "val")):
        save_pair(tmp_path, split, str(number), seed=number)
    return tmp_path


def check(config: DataConfig) -> None:
    check_training_data(config, build_splits(config))


@pytest.mark.parametrize("how", ["copied", "renamed", "hard link", "link", "linked folder"])
def test_a_file_that_is_in_both_splits_stops(root, how):
    config = DataConfig(source=str(root), classes=("a", "b"))
    check(config)  # files of one size, and different images
    image, other = root / "images" / "train" / "0.bmp", root / "images" / "val" / "0.bmp"
    if how == "linked folder":
        for kind in ("images", "masks"):
            shutil.rmtree(root / kind / "val")
            (root / kind / "val").symlink_to(root / kind / "train")
    else:
        other = other.with_stem("z") if how == "renamed" else other
        {"hard link": other.hardlink_to, "link": other.symlink_to}.get(how, lambda path: shutil.copy(path, other))(
            image
        )
        shutil.copy(root / "masks" / "train" / "1.bmp", (root / "masks" / "val" / other.name))  # of another image
    with pytest.raises(DataError, match=f"images of {root.name} val in {root.name} train too: {other}") as caught:
        check(config)
    assert "score would be that of training images" in caught.value.hint


def test_lists_that_name_the_same_image_stop(tmp_path):
    for kind in ("JPEGImages", "SegmentationClass"):
        for number in range(3):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.new("L", (SIDE, SIDE), number).save(tmp_path / kind / f"{number}.png")
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0 1\n")
    (lists / "val.txt").write_text("1 2\n")
    for source in (f"voc={tmp_path}", str(tmp_path)):
        with pytest.raises(DataError, match=r"1 of the 2 images of .* val in .* train too: .*1\.png"):
            check(DataConfig(source=source))


class Made:
    """Images that have no files; some of the masks are alike."""

    label_space = LabelSpace(("a", "b"))

    def __init__(self, name: str, seeds: list[int]) -> None:
        self.name = name
        self.seeds = seeds

    def __len__(self) -> int:
        return len(self.seeds)

    def key(self, index: int) -> str:
        return f"{self.name} {index}"

    def get(self, index: int) -> Sample:
        image = np.random.default_rng(self.seeds[index]).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        return Sample(self.key(index), image, self.mask(index).astype(np.uint16))

    def mask(self, index: int) -> np.ndarray:
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask.flat[: self.seeds[index] % 5] = 1
        return mask

    def image_path(self, index: int) -> None: ...
    def mask_path(self, index: int) -> None: ...


def test_images_without_files_are_compared_where_their_masks_are_alike():
    config = DataConfig(source="python")
    check_training_data(config, read_splits((Made("mine", [1, 2, 3]), Made("yours", [6, 7, 8]))))
    with pytest.raises(DataError, match=r"1 of the 3 images of yours in mine too: yours 2 is mine 1"):
        check_training_data(config, read_splits((Made("mine", [1, 2, 3]), Made("yours", [6, 7, 2]))))


def test_one_split_of_drawn_images_for_both_stops():
    config = DataConfig(source="shapes", split=SplitOptions(train="val", val="val"), options={"num_val": 2, "size": 65})
    with pytest.raises(DataError, match="2 of the 2 images of shapes val in shapes val too"):
        check(config)


def test_a_digest_is_kept_until_the_file_changes(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    monkeypatch.setattr("atrous.data.facts_cache.SETTLED_S", -1.0)
    with FactsCache(tmp_path / "cache") as cache:
        first = cache.read_digest(path)
    monkeypatch.setattr("atrous.data.facts_cache._hash_file", lambda path: "computed again")
    assert FactsCache(tmp_path / "cache").read_digest(path) == first
    path.write_bytes(b"another")
    assert FactsCache(tmp_path / "cache").read_digest(path) == "computed again"


def test_files_of_one_data_set_are_found_in_another_under_any_name(root, tmp_path):
    splits = build_splits(DataConfig(source=str(root), classes=("a", "b")))
    assert find_shared_files(splits.train, splits.val) == []
    copied = root / "images" / "val" / "2.bmp"
    shutil.copy(root / "images" / "train" / "1.bmp", copied)
    assert find_shared_files(splits.val, splits.train) == [0]
    assert find_shared_files(splits.train, splits.val) == [1]
    assert find_shared_files(Made("mine", [1]), splits.train) == []


def test_validation_images_of_a_later_stage_are_not_those_that_an_earlier_one_trains_on(root, tmp_path):
    second = tmp_path / "second"
    for number, split in enumerate(("train", "val"), start=10):
        save_pair(second, split, str(number), seed=number)
    shutil.copy(root / "images" / "train" / "1.bmp", second / "images" / "val" / "11.bmp")
    stages = [{"data.source": str(root)}, {"data.source": str(second)}]
    loaded = load_config(
        options={"data.source": str(root), "data.classes": ["a", "b"], "model.name": "fcn-tiny", "weights": "none"},
        assignments=["training.crop=33"],
        settings={"stages": stages},
    )
    with pytest.raises(DataError, match=r"1 of the 1 image of second val in .* train too, which an earlier stage"):
        plan_training(loaded)


def fingerprint(root: Path) -> str:
    splits = build_splits(config := DataConfig(source=str(root), classes=("a", "b")))
    return compute_fingerprint(splits, check_training_data(config, splits)[0])


@pytest.mark.parametrize("kind", ["images", "masks"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_any_changed_file_is_a_change_of_the_data_and_another_place_is_none(root, tmp_path_factory, kind, split):
    before = fingerprint(root)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / root.name
    shutil.copytree(root, elsewhere, copy_function=shutil.copy)  # with other times
    assert fingerprint(elsewhere) == before
    path = next(iter(sorted((elsewhere / kind / split).iterdir())))
    pixels = np.asarray(Image.open(path))
    assert (pixels != pixels[:, ::-1]).any()
    Image.fromarray(np.ascontiguousarray(pixels[:, ::-1])).save(path)  # the same size, ids and counts
    assert fingerprint(elsewhere) != before


def test_a_changed_mask_without_a_file_is_a_change_of_the_data():
    class Mirrored(Made):
        def mask(self, index: int) -> np.ndarray:
            return super().mask(index)[:, ::-1]

    config = DataConfig(source="python")
    prints = set()
    for kind in (Made, Made, Mirrored):
        splits = read_splits((Made("mine", [1, 2, 3]), kind("yours", [6, 7, 8])))
        prints.add(compute_fingerprint(splits, check_training_data(config, splits)[0]))
    assert len(prints) == 2
