"""The built-in shapes: one function of (seed, split, index), and nothing but outlines tells the classes apart."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from atrous.core.errors import ConfigError
from atrous.core.records import Sample
from atrous.core.split_options import SplitOptions
from atrous.data.contracts import DataRequest
from atrous.data.datasets.shapes import CLASSES, ShapesDataset, build_shapes

NUM_CLASSES = len(CLASSES)


def digest(sample: Sample) -> str:
    return hashlib.sha256(sample.image.tobytes() + sample.labels.tobytes()).hexdigest()


def count_pixels(dataset: ShapesDataset, count: int) -> np.ndarray:
    masks = [dataset.mask(index) for index in range(count)]
    return np.stack([np.bincount(mask.ravel(), minlength=NUM_CLASSES) for mask in masks])


def test_a_sample_depends_on_nothing_but_seed_split_and_index() -> None:
    splits = build_shapes(num_train=5, num_val=2)
    backwards = [digest(splits.train.get(index)) for index in (4, 3, 2, 1, 0)][::-1]
    longer = build_shapes(num_train=90, num_val=7)
    assert backwards == [digest(longer.train.get(index)) for index in range(5)]
    others = [longer.val.get(0), build_shapes(seed=1).train.get(0)]
    assert len({*backwards, *map(digest, others)}) == 7


def test_another_process_draws_the_same_image() -> None:
    code = (
        "import hashlib; from atrous.data.datasets.shapes import build_shapes; sample = build_shapes().val.get(3);"
        "print(hashlib.sha256(sample.image.tobytes() + sample.labels.tobytes()).hexdigest())"
    )
    other = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    assert other == digest(build_shapes().val.get(3))


def test_it_names_its_samples() -> None:
    dataset = build_shapes().val
    assert (dataset.name, dataset.key(7), len(dataset)) == ("shapes val", "val/00007", 60)
    assert dataset.image_path(0) is None


def test_images_and_labels_have_their_form() -> None:
    sample = build_shapes(size=(97, 130)).train.get(0)
    assert (sample.image.shape, sample.image.dtype) == ((97, 130, 3), np.uint8)
    assert (sample.labels.shape, sample.labels.dtype) == ((97, 130), np.uint16)
    assert build_shapes(size=65).train.get(0).labels.shape == (65, 65)


def test_every_class_is_in_the_val_split_in_quantity() -> None:
    pixels = count_pixels(build_shapes().val, 60)
    assert pixels.shape[1] == NUM_CLASSES  # no id above the classes
    assert ((pixels > 0).sum(axis=0) >= 10).all()
    assert (pixels.sum(axis=0) / pixels.sum() > 0.01).all()


def test_every_shape_comes_in_small_and_in_large() -> None:
    """A class that kept to one size could be told by it, and would not stand a change of scale."""
    pixels = count_pixels(build_shapes(num_train=120).train, 120)
    for index, name in list(enumerate(CLASSES))[1:]:
        areas = pixels[:, index][pixels[:, index] > 0]
        small, large = np.quantile(areas, (0.1, 0.9))
        assert large > 2 * small, name


def test_left_and_right_are_alike() -> None:
    masks = [build_shapes(num_train=150, size=129).train.mask(index) for index in range(150)]
    left = np.bincount(np.concatenate([mask[:, :64].ravel() for mask in masks]), minlength=NUM_CLASSES)
    right = np.bincount(np.concatenate([mask[:, 65:].ravel() for mask in masks]), minlength=NUM_CLASSES)
    np.testing.assert_allclose(left / (left + right), 0.5, atol=0.12)


def test_colour_gives_no_class_away() -> None:
    """The classes' mean colours differ by far less than the colours of one class do among themselves."""
    dataset = build_shapes(num_train=60, size=97).train
    means: list[list[np.ndarray]] = [[] for _ in CLASSES]
    for sample in map(dataset.get, range(60)):
        for index in np.unique(sample.labels):
            means[index].append(sample.image[sample.labels == index].mean(axis=0))
    for colours in means:
        spread = np.std(colours, axis=0)
        assert spread.min() > 30
        assert np.abs(np.mean(colours, axis=0) - 128).max() < 4 * spread.max() / np.sqrt(len(colours))


def test_a_hole_shows_the_background_and_lies_in_a_frame() -> None:
    dataset = build_shapes(num_train=30).train
    seen = 0
    for sample in map(dataset.get, range(30)):
        labels = sample.labels.astype(int)
        hole, frame = labels == CLASSES.index("hole"), labels == CLASSES.index("frame")
        if hole.any():
            seen += 1
            assert frame.any()
            background = labels == 0
            touching = (hole[:, 1:] & background[:, :-1]) | (hole[:, :-1] & background[:, 1:])
            assert touching.sum() <= 0.02 * hole.sum() + 8  # only where a frame leaves the image or is pointed
    assert seen >= 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 33}, "data.options.size: 33x33 is too small"),
        ({"num_val": 0}, "data.options.num_val: 0 images"),
        (
            {"request": DataRequest(split=SplitOptions(train="trainval"))},
            "data.split.train: shapes has no split 'trainval'",
        ),
        ({"request": DataRequest(classes=("sky", "road"))}, "data.classes: shapes has classes of its own"),
    ],
)
def test_impossible_options_are_refused_by_name(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_shapes(**options)  # type: ignore[arg-type]
    assert words in str(caught.value)


def test_the_classes_may_be_given_by_their_own_names() -> None:
    for classes in (CLASSES, dict(enumerate(CLASSES))):
        assert build_shapes(None, DataRequest(classes)).val.label_space == build_shapes().val.label_space


def test_an_index_beyond_the_end_is_refused() -> None:
    with pytest.raises(IndexError, match="sample 2 of 2"):
        build_shapes(num_val=2).val.get(2)
