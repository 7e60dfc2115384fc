from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from atrous.config.schema import DataConfig
from atrous.core.errors import DataError
from atrous.core.labels import IGNORE_INDEX
from atrous.data.build import build_splits
from atrous.data.contracts import DataRequest
from atrous.data.datasets.cityscapes import CITYSCAPES, build_cityscapes


def add(root, split, name, ids=((7, 4), (33, 26)), kinds=("image", "mask")):
    city = name.split("_")[0]
    places = {
        "image": root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png",
        "mask": root / "gtFine" / split / city / f"{name}_gtFine_labelIds.png",
        "colour": root / "gtFine" / split / city / f"{name}_gtFine_color.png",
    }
    for kind in kinds:
        places[kind].parent.mkdir(parents=True, exist_ok=True)
        mask = np.array(ids, np.uint8)
        Image.fromarray(mask if kind == "mask" else np.stack([mask] * 3, axis=2)).save(places[kind])
    return places


def test_ids_are_those_of_the_files_and_indices_those_of_the_benchmark(tmp_path):
    add(tmp_path, "train", "ulm_000000_000019", kinds=("image", "mask", "colour"))
    add(tmp_path, "val", "bonn_000001_000019")
    splits = build_cityscapes(tmp_path)
    assert splits.train.key(0) == "train/ulm/ulm_000000_000019"
    assert splits.train.get(0).labels.tolist() == [
        [0, IGNORE_INDEX],
        [18, 13],
    ]  # train ids of road, static, bicycle, car
    assert splits.train.label_space.decode(np.array([[0, 18]])).tolist() == [[7, 33]]
    assert len(splits.train) == len(splits.val) == 1


def test_all_ids_of_the_files_are_known_and_nineteen_are_scored():
    assert CITYSCAPES.num_classes == 19
    assert sorted({*CITYSCAPES.ids, *CITYSCAPES.ignored_ids} - {255}) == list(range(34))
    # a few lines of the benchmark's own table: name, id, train id
    for name, number, index in [
        ("road", 7, 0),
        ("pole", 17, 5),
        ("sky", 23, 10),
        ("train", 31, 16),
        ("bicycle", 33, 18),
    ]:
        assert (CITYSCAPES.ids[index], CITYSCAPES.names[index]) == (number, name)


def test_files_without_a_partner_are_named(tmp_path):
    add(tmp_path, "train", "ulm_000000_000019")
    alone = add(tmp_path, "train", "ulm_000001_000019", kinds=("image",))["image"]
    add(tmp_path, "val", "bonn_000001_000019")
    with pytest.raises(DataError, match="1 image without a mask") as caught:
        build_splits(DataConfig(source=f"cityscapes={tmp_path}"))
    assert str(alone) in caught.value.message


def test_a_missing_split_is_told_with_those_that_there_are(tmp_path):
    add(tmp_path, "train", "ulm_000000_000019")
    with pytest.raises(DataError, match="no split val; there are: train"):
        build_cityscapes(tmp_path)
    assert len(build_cityscapes(tmp_path, DataRequest(every_pair=True)).train) == 1
    (tmp_path / "leftImg8bit" / "val").mkdir()
    (tmp_path / "gtFine" / "val").mkdir()
    with pytest.raises(DataError, match="no pairs in"):
        build_splits(DataConfig(source=f"cityscapes={tmp_path}"))


def test_several_files_of_one_name_are_refused(tmp_path):
    image = add(tmp_path, "train", "ulm_000000_000019")["image"]
    add(tmp_path, "val", "bonn_000001_000019")
    image.with_suffix(".jpg").write_bytes(image.read_bytes())
    with pytest.raises(DataError, match=f"1 name with several files: {image.with_suffix('.jpg')} and {image}"):
        build_splits(DataConfig(source=f"cityscapes={tmp_path}"))
