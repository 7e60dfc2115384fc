"""What every entry of DATASETS must keep, on a tiny layout of its own, and on the real data where it lies."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from atrous.core.data_source import DRAWN
from atrous.core.labels import IGNORE_INDEX
from atrous.core.split_options import SplitOptions
from atrous.data import DATASETS
from atrous.data.checks.survey import Survey, run_checks
from atrous.data.contracts import DataRequest, Splits

REAL = {"camvid": ("camvid", DataRequest()), "voc": ("voc_animals", DataRequest(split=SplitOptions(train="train_aug")))}


def save_pair(image: Path, mask: Path, ids: list[int]) -> None:
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)).save(image)
    Image.fromarray(np.resize(np.array(ids, np.uint8), (6, 9))).save(mask)


def make_tiny(name: str, root: Path) -> dict[str, object]:
    """Lay out a few files as the data set wants them; return its options."""
    if name == "shapes":
        return {"num_train": 3, "num_val": 2}
    for split in ("train", "val"):
        for key in ("a", "b"):
            if name == "camvid":
                save_pair(root / split / f"{key}.jpg", root / f"{split}annot" / f"{key}.png", [0, 3, 10, 11])
            elif name == "cityscapes":
                stem = f"{split}/aachen/aachen_00000{key}"
                image, mask = f"leftImg8bit/{stem}_leftImg8bit.png", f"gtFine/{stem}_gtFine_labelIds.png"
                save_pair(root / image, root / mask, [7, 0, 33, 26])
            elif name == "ade20k":
                stem = f"{'training' if split == 'train' else 'validation'}/ADE_{split}_0000000{key}"
                save_pair(root / f"images/{stem}.jpg", root / f"annotations/{stem}.png", [0, 1, 150])
            elif name == "voc":
                stem = f"{split}_{key}"
                save_pair(root / "JPEGImages" / f"{stem}.jpg", root / "SegmentationClass" / f"{stem}.png", [0, 15, 255])
            else:
                save_pair(root / "images" / split / f"{key}.jpg", root / "masks" / split / f"{key}.png", [0, 7, 255])
    if name == "voc":
        lists = root / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True)
        for split in ("train", "val"):
            (lists / f"{split}.txt").write_text(f"{split}_a\n{split}_b\n")
    return {}


def require_contract(splits: Splits, count: int) -> None:
    train_keys = {splits.train.key(index) for index in range(len(splits.train))}
    for dataset in (splits.train, splits.val):
        space = dataset.label_space
        assert dataset.name
        keys = [dataset.key(index) for index in range(len(dataset))]
        assert len(set(keys)) == len(keys) > 0
        copy = pickle.loads(pickle.dumps(dataset))
        for index in range(min(count, len(dataset))):
            one, other = dataset.get(index), copy.get(index)
            assert one.key == other.key == keys[index]
            np.testing.assert_array_equal(one.image, other.image)
            np.testing.assert_array_equal(one.labels, other.labels)
            assert one.image.dtype == np.uint8
            assert one.image.shape == (*one.labels.shape, 3)
            assert one.labels.dtype == np.uint16
            valid = one.labels[one.labels != IGNORE_INDEX]
            assert valid.max(initial=0) < space.num_classes
            mask = dataset.mask(index)
            assert set(np.unique(mask).tolist()) <= {*space.ids, *space.ignored_ids}
            np.testing.assert_array_equal(space.encode(mask), one.labels)
            assert (dataset.image_path(index) is None) == (dataset.mask_path(index) is None)
    assert splits.train.label_space == splits.val.label_space
    assert train_keys.isdisjoint(splits.val.key(index) for index in range(len(splits.val)))
    assert splits.layout


@pytest.mark.parametrize("name", list(DATASETS))
def test_data_set_keeps_the_contract(name, tmp_path):
    options = make_tiny(name, tmp_path)
    require_contract(DATASETS.load(name)(tmp_path, **options), count=3)


@pytest.mark.parametrize("name", [name for name in DATASETS if name not in DATASETS.find_tagged(DRAWN)])
@pytest.mark.parametrize("left_out", ["image_path", "mask_path"])
def test_what_is_excluded_is_left_out_with_its_partner_and_said(name, left_out, tmp_path):
    make_tiny(name, tmp_path)
    builder = DATASETS.load(name)
    whole = builder(tmp_path)
    path = getattr(whole.train, left_out)(0).relative_to(tmp_path)
    splits = builder(tmp_path, DataRequest(exclude=(str(path), "gone/*.png")))
    assert [splits.train.key(index) for index in range(len(splits.train))] == [whole.train.key(1)]
    assert len(splits.val) == len(whole.val)
    found = [*splits.notes, *(finding.to_note() for finding in run_checks(Survey(inventories=splits.inventories)))]
    notes = [note for note in found if note.code == "excluded-files"]
    assert [note for note in notes if note.startswith("2 files skipped") and str(path) in note]
    assert [note for note in notes if "no image or mask matches 'gone/*.png'" in note]


@pytest.mark.parametrize("name", list(REAL))
def test_real_images_keep_the_contract(name):
    folder, request = REAL[name]
    root = Path(os.environ.get("ATROUS_DATA", "")) / folder
    if "ATROUS_DATA" not in os.environ or not root.is_dir():
        pytest.skip(f"no {folder}/ in the folder that ATROUS_DATA names")
    require_contract(DATASETS.load(name)(root, request), count=5)
