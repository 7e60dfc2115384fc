from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.config.load import load_config
from atrous.core.errors import ConfigError, DataError
from atrous.core.split_options import SplitOptions
from atrous.data.build import build_splits
from atrous.data.contracts import DataRequest
from atrous.data.datasets.folder import build_folder
from atrous.data.datasets.voc import build_voc

NUMBERS = range(10)


def save(path: Path, pixels: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


@pytest.fixture
def flat(tmp_path):
    """Pairs scene0_0 to scene4_1 without splits, each image its own noise."""
    generator = np.random.default_rng(0)
    for number in NUMBERS:
        name = f"scene{number // 2}_{number % 2}.png"
        save(tmp_path / "images" / name, generator.integers(0, 256, (4, 6, 3)))
        save(tmp_path / "masks" / name, np.tile([0, 1], (4, 3)))
    return tmp_path


@pytest.fixture
def divided(flat):
    """The same with scene0 and scene1 in train/, scene2 in val/, scene3 and scene4 in test/."""
    for kind in ("images", "masks"):
        for path in sorted((flat / kind).glob("*.png")):
            split = "train" if path.name < "scene2" else "val" if path.name < "scene3" else "test"
            (flat / kind / split).mkdir(exist_ok=True)
            path.rename(flat / kind / split / path.name)
    return flat


def list_keys(root, **split):
    found = build_folder(root, DataRequest(split=SplitOptions(**split)))
    return tuple([side.key(index) for index in range(len(side))] for side in (found.train, found.val))


def test_a_share_is_held_out_of_data_without_splits(flat):
    train, val = list_keys(flat)
    assert (len(train), len(val)) == (8, 2)
    assert list_keys(flat, val=0.2) == (train, val)
    assert len(list_keys(flat, val=0.5)[1]) == 5
    assert list_keys(flat, seed=1) != (train, val)


def test_images_of_one_group_stay_on_one_side(flat):
    train, val = list_keys(flat, val=0.4, group="^(.+?)_")
    assert len(val) == 4
    assert not {key[:6] for key in train} & {key[:6] for key in val}
    with pytest.raises(DataError, match=r"data\.split\.group: '\^\(s\)' puts all 10 images into one group"):
        list_keys(flat, group="^(s)")


def test_copies_of_one_file_stay_on_one_side(flat):
    for number in NUMBERS:
        source, copy = flat / "images" / f"scene{number // 2}_{number % 2}.png", flat / "images" / f"z{number}.png"
        copy.write_bytes(source.read_bytes())
        save(flat / "masks" / copy.name, np.tile([0, 1], (4, 3)))
    for seed in range(5):
        _, val = list_keys(flat, val=0.4, seed=seed)
        assert len(val) == 8
        assert {f"z{2 * int(key[5]) + int(key[7])}" for key in val if key[0] == "s"} == {k for k in val if k[0] == "z"}


def test_a_share_is_held_out_of_splits_that_exist_without_those_to_test(divided):
    train, val = list_keys(divided, val=0.2)
    assert (len(train), len(val)) == (5, 1)
    assert not any(key.startswith("test") for key in (*train, *val))
    train, val = list_keys(divided, train="train", val=0.25)
    assert {key.partition("/")[0] for key in (*train, *val)} == {"train"}
    train, val = list_keys(divided, val=0.5, group="^(.+?)_")  # the folder of a split is no part of a name
    assert not {key[-8:-2] for key in train} & {key[-8:-2] for key in val}


def test_lists_name_images_in_any_of_their_forms(divided):
    (divided / "val.txt").write_text("scene0_0\nimages/train/scene0_1.png\n\ntrain/scene1_0.png\n")
    (divided / "train.csv").write_text("id;image\n1;scene2_0\n2;test/scene4_1\n")
    assert list_keys(divided, train="train.csv", val="val.txt") == (
        ["val/scene2_0", "test/scene4_1"],
        ["train/scene0_0", "train/scene0_1", "train/scene1_0"],
    )
    train, val = list_keys(divided, val="val.txt")
    assert (len(train), len(val)) == (7, 3)  # the rest is trained on
    assert len(list_keys(divided, train="train.csv")[1]) == 8
    assert len(list_keys(divided, train="val.txt", val=0.4)[0]) == 2
    assert list_keys(divided, train="train.csv", val="val")[1] == ["val/scene2_0", "val/scene2_1"]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("scene0_0\nscene9_9\n", "1 image listed that the data do not have: {path}:2: scene9_9", "Did you mean"),
        ("", "{path}: no image listed", "Write an image a line"),
        ("../../etc/passwd\n", "{path}:1: ../../etc/passwd", ""),
        ("\udcff", "{path}: not UTF-8 text", "UTF-8"),
    ],
)
def test_a_list_that_does_not_fit_is_refused_with_its_lines(flat, text, message, hint):
    (flat / "val.txt").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError) as caught:
        list_keys(flat, val="val.txt")
    assert message.format(path=flat / "val.txt") in caught.value.message
    assert hint in caught.value.hint
    with pytest.raises(DataError, match=r"gone\.txt: cannot be read"):
        list_keys(flat, val="gone.txt")


def test_names_that_several_images_have_are_refused(divided):
    for kind in ("images", "masks"):
        (divided / kind / "val" / "scene2_0.png").rename(divided / kind / "val" / "scene0_0.png")
    (divided / "val.txt").write_text("scene0_0\n")
    with pytest.raises(DataError, match=r"names that several images have: .*train/scene0_0 and val/scene0_0"):
        list_keys(divided, val="val.txt")
    (divided / "val.txt").write_text("val/scene0_0\n")
    assert list_keys(divided, val="val.txt")[1] == ["val/scene0_0"]


def test_lists_may_name_what_is_left_out(flat):
    (flat / "val.txt").write_text("scene0_0\nscene0_1\n")
    request = DataRequest(split=SplitOptions(val="val.txt"), exclude=("scene0_0.png",))
    assert len(build_folder(flat, request).val) == 1


def test_a_named_split_of_data_without_splits_is_refused(flat):
    with pytest.raises(DataError, match="no split trainval, as the data have no splits"):
        list_keys(flat, train="trainval", val="val")


def test_a_share_is_held_out_of_the_lists_of_a_registered_data_set(tmp_path):
    for number in NUMBERS:
        save(tmp_path / "JPEGImages" / f"{number}.png", np.random.default_rng(number).integers(0, 256, (4, 6, 3)))
        (tmp_path / "JPEGImages" / f"{number}.png").rename(tmp_path / "JPEGImages" / f"{number}.jpg")
        save(tmp_path / "SegmentationClass" / f"{number}.png", np.tile([0, 1], (4, 3)))
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for name, numbers in (("train", NUMBERS[:6]), ("val", NUMBERS[6:]), ("trainval", NUMBERS)):
        (lists / f"{name}.txt").write_text("".join(f"{number}\n" for number in numbers))
    for split in (SplitOptions(train="trainval", val=0.2), SplitOptions(val=0.2)):
        splits = build_voc(tmp_path, DataRequest(split=split))
        assert (len(splits.train), len(splits.val)) == (8, 2)


def test_the_settings_of_the_data_choose_the_splits(flat):
    (flat / "val.txt").write_text("scene0_0\nscene0_1\nscene1_0\n")
    (flat / "atrous.yaml").write_text("data: {split: {val: val.txt}}\n")
    config = load_config(options={"data.source": str(flat)}).config
    assert len(build_splits(config.data).val) == 3
    config = load_config(options={"data.source": str(flat)}, assignments=["data.split.val=0.5"]).config
    assert len(build_splits(config.data).val) == 5
    with pytest.raises(ConfigError, match=r"data\.val_fraction is unknown\nWrite data\.split\.val"):
        load_config(options={"data.source": str(flat)}, assignments=["data.val_fraction=0.5"])
