from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from atrous.config.schema import DataConfig
from atrous.core.errors import DataError
from atrous.core.labels import IGNORE_INDEX
from atrous.core.split_options import SplitOptions
from atrous.data.build import build_splits
from atrous.data.contracts import DataRequest
from atrous.data.datasets.voc import VOC, build_voc


@pytest.fixture
def root(tmp_path):
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / name).mkdir(parents=True)
    for key in ("2007_a", "2007_b", "2007_c", "2007_unlisted"):
        Image.new("RGB", (4, 1)).save(tmp_path / "JPEGImages" / f"{key}.jpg")
        mask = Image.fromarray(np.array([[0, 8, 12, 255]], np.uint8)).convert("P")
        mask.putpalette([value for colour in VOC.colours for value in colour])
        mask.save(tmp_path / "SegmentationClass" / f"{key}.png")
    lists = tmp_path / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("2007_b\n2007_a\n")
    (lists / "val.txt").write_text("2007_c\n")
    return tmp_path


def test_colours_are_those_of_the_bit_pattern():
    for index, colour in enumerate(VOC.colours):
        wanted, number = [0, 0, 0], index
        for shift in range(7, -1, -1):
            for channel in range(3):
                wanted[channel] |= ((number >> channel) & 1) << shift
            number >>= 3
        assert list(colour) == wanted


def test_lists_are_followed(root):
    splits = build_voc(root)
    assert [splits.train.key(index) for index in range(2)] == ["2007_b", "2007_a"]
    assert splits.val.key(0) == "2007_c"
    np.testing.assert_array_equal(splits.val.get(0).labels, [[0, 8, 12, IGNORE_INDEX]])


def test_subset_ignores_the_other_registered_classes(root):
    splits = build_voc(root, DataRequest(classes=("background", "dog")))
    np.testing.assert_array_equal(splits.val.get(0).labels, [[0, IGNORE_INDEX, 1, IGNORE_INDEX]])
    assert "8 cat" in splits.notes[0]
    assert "12 dog" not in splits.notes[0]


def test_unregistered_ids_stop(root):
    Image.fromarray(np.array([[0, 8, 99, 255]], np.uint8)).save(root / "SegmentationClass" / "2007_c.png")
    with pytest.raises(DataError, match=r"2007_c\.png: .*99 \(1 pixel\)"):
        build_voc(root, DataRequest(classes=("background", "dog"))).val.get(0)


def test_missing_list_names_the_others(root):
    with pytest.raises(DataError, match="no split train_aug; there are: train, val") as caught:
        build_voc(root, DataRequest(split=SplitOptions(train="train_aug")))
    assert "Choose one: `set` data.split.train=train," in caught.value.hint


def test_listed_files_that_are_missing_are_all_named(root):
    (root / "JPEGImages" / "2007_a.jpg").unlink()
    (root / "SegmentationClass" / "2007_c.png").unlink()
    with pytest.raises(DataError) as caught:
        build_splits(DataConfig(source=f"voc={root}"))
    assert f"1 image without a mask: {root}/JPEGImages/2007_c.jpg" in caught.value.message
    assert f"1 mask without an image: {root}/SegmentationClass/2007_a.png" in caught.value.message
    (root / "SegmentationClass" / "2007_a.png").unlink()
    with pytest.raises(DataError, match=r"1 name of the lists without a file .*: 2007_a"):
        build_voc(root)


def test_an_empty_list_is_named_and_for_every_pair_it_does_not_count(root):
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("\n")
    with pytest.raises(DataError, match=r"val\.txt: no image named"):
        build_voc(root)
    assert len(build_voc(root, DataRequest(every_pair=True)).train) == 2


@pytest.mark.parametrize(("folder", "suffix"), [("JPEGImages", ".png"), ("SegmentationClass", ".tif")])
def test_several_files_of_a_listed_name_are_refused_and_others_do_not_matter(root, folder, suffix):
    for key in ("2007_unlisted", "2007_c"):
        build_splits(DataConfig(source=f"voc={root}"))
        Image.new("L", (4, 1)).save(root / folder / f"{key}{suffix}")
    with pytest.raises(DataError, match=r"1 name with several files: .*2007_c\..* and .*2007_c\."):
        build_splits(DataConfig(source=f"voc={root}"))
