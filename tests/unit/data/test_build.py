from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from atrous.config.schema import DataConfig, TrainingConfig
from atrous.core.errors import ConfigError, DataError
from atrous.core.labels import LabelSpace
from atrous.data.build import (
    build_all_pairs,
    build_loader,
    build_splits,
    check_training_data,
    find_source,
    list_pass,
)
from atrous.data.datasets.shapes import CLASSES
from atrous.data.statistics import MaskStatistics


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (tmp_path / "mine" / kind).mkdir(parents=True)
    for number in range(10):
        image = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(image).save(tmp_path / "mine" / "images" / f"{number}.png")
        mask = generator.choice([0, 1, 255], (20, 24)).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / "mine" / "masks" / f"{number}.png")
    return tmp_path / "mine"


def test_a_folder_from_search_to_batch(folder):
    config = DataConfig(source=str(folder))
    splits = build_splits(config)
    assert (len(splits.train), len(splits.val)) == (8, 2)
    statistics, findings = check_training_data(config, splits)
    assert statistics.num_masks == 8
    assert any("255" in finding.message for finding in findings)
    training = TrainingConfig(crop=16, batch=4)
    batches = list(build_loader(splits.train, training, start_place=0, num_places=8, workers=0))
    assert [batch.images.shape for batch in batches] == [(4, 3, 16, 16)] * 2


def test_every_pair_whatever_the_splits(folder):
    every = build_all_pairs(DataConfig(source=str(folder)))
    assert len(every) == 10
    shapes = DataConfig(source="shapes", options={"num_train": 3, "num_val": 2})
    assert len(build_all_pairs(shapes)) == 5
    assert build_all_pairs(shapes).name == "shapes, every pair"


def test_colours_of_classes_are_those_of_both_sides_and_shapes_has_its_own(folder, tmp_path):
    splits = build_splits(DataConfig(source=str(folder), classes={0: "a", 1: {"name": "b", "colour": (9, 8, 7)}}))
    assert splits.train.label_space == splits.val.label_space
    assert splits.train.label_space.colours == ((0, 0, 0), (9, 8, 7))
    for split in ("train", "val"):
        for place in (split, f"{split}annot"):
            (tmp_path / "camvid" / place).mkdir(parents=True)
            Image.new("L", (4, 4)).save(tmp_path / "camvid" / place / f"{split}.png")
    named = {0: {"name": "heaven", "colour": (1, 2, 3)}, 3: "road"}
    space = build_splits(DataConfig(source=f"camvid={tmp_path / 'camvid'}", classes=named)).train.label_space
    assert (space.names, space.colours) == (("heaven", "road"), ((1, 2, 3), (128, 64, 128)))
    drawn = {number: {"name": name, "colour": (1, 2, 3)} for number, name in enumerate(CLASSES)}
    with pytest.raises(ConfigError, match="'shapes' has colours of its own"):
        build_splits(DataConfig(source="shapes", classes=drawn))


def test_one_pair_is_enough_to_be_scored(folder):
    for kind in ("images", "masks"):
        for number in range(1, 10):
            (folder / kind / f"{number}.png").unlink()
    assert len(build_all_pairs(DataConfig(source=str(folder)))) == 1
    config = DataConfig(source=str(folder))
    with pytest.raises(DataError, match="one pair cannot be split"):
        check_training_data(config, build_splits(config))


def test_named_class_without_a_pixel_stops_and_a_found_one_is_told(folder):
    config = DataConfig(source=str(folder), classes=("a", "b", "c"))
    with pytest.raises(DataError, match=r"no valid pixel of 'c' \(id 2\)"):
        check_training_data(config, build_splits(config))

    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (folder / kind / split).mkdir()
    for number in range(10):
        for kind in ("images", "masks"):
            (folder / kind / f"{number}.png").rename(
                folder / kind / ("val" if number < 2 else "train") / f"{number}.png"
            )
    Image.fromarray(np.full((20, 24), 7, np.uint8)).save(folder / "masks" / "val" / "0.png")
    config = DataConfig(source=str(folder))
    _, findings = check_training_data(config, build_splits(config))
    assert any("'class 7' (id 7), which val holds" in finding.message for finding in findings)


def test_strange_ids_in_val_stop_before_training(folder):
    (folder / "train").mkdir()
    config = DataConfig(source=str(folder), classes=("a", "b"))
    splits = build_splits(config)
    Image.fromarray(np.full((20, 24), 7, np.uint8)).save(splits.val.mask_path(0))
    with pytest.raises(DataError, match=r"7 \(480 pixels\)"):
        check_training_data(config, splits)


def test_a_missing_place_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("ATROUS_DATA", str(tmp_path))
    with pytest.raises(DataError, match=str(tmp_path / "camvid")) as caught:
        build_splits(DataConfig(source="camvid"))
    assert "camvid=PATH" in caught.value.hint


def test_sources_that_mean_nothing(tmp_path):
    with pytest.raises(ConfigError, match="no data given"):
        find_source(DataConfig())
    with pytest.raises(ConfigError, match="unknown data set 'camvit'") as config_error:
        find_source(DataConfig(source="camvit=/x"))
    assert "camvid" in config_error.value.hint
    with pytest.raises(DataError, match="no folder camvit") as caught:
        find_source(DataConfig(source="camvit"))
    assert "Did you mean camvid?" in caught.value.hint
    (tmp_path / "a.jpg").touch()
    with pytest.raises(DataError, match="is a file"):
        find_source(DataConfig(source=str(tmp_path / "a.jpg")))


def test_options_are_checked_against_the_data_set(folder):
    with pytest.raises(ConfigError, match=r"data\.options\.num_trian: unknown option") as caught:
        build_splits(DataConfig(source="shapes", options={"num_trian": 3}))
    assert "num_train" in caught.value.message
    with pytest.raises(ConfigError, match=r"data\.options\.num_train: .*got 'many'"):
        build_splits(DataConfig(source="shapes", options={"num_train": "many"}))
    with pytest.raises(ConfigError, match=r"data\.options\.size: unknown option\. Allowed: none"):
        build_splits(DataConfig(source=str(folder), options={"size": 3}))


def test_a_pass_repeats_the_images_that_hold_a_named_class():
    presence = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 1]], dtype=bool)
    statistics = MaskStatistics(presence.sum(0), presence, {}, 3, 65)
    space = LabelSpace(("road", "car", "bus"), ids=(0, 7, 9))
    assert list_pass(TrainingConfig(), space, statistics).tolist() == [0, 1, 2]
    assert list_pass(TrainingConfig(hard_classes=("bus",)), space, statistics).tolist() == [0, 1, 2, 2]
    training = TrainingConfig(hard_classes=("car", "bus"), hard_repeats=3)
    assert list_pass(training, space, statistics).tolist() == [0, 1, 1, 1, 2, 2, 2]
    with pytest.raises(ConfigError, match="no class 'cra'\nDid you mean 'car'"):
        list_pass(TrainingConfig(hard_classes=("cra",)), space, statistics)
