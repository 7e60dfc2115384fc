from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, IterableDataset, Subset

import atrous
from atrous.core.errors import AtrousError
from atrous.core.labels import IGNORE_INDEX
from atrous.core.records import Sample

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
PIXELS[0, 0] = 0, 128, 255
IDS = np.resize(np.array([0, 1, 2, 255], np.uint8), (4, 6))
LABELS = np.where(IDS == 255, IGNORE_INDEX, IDS.astype(int))
CLASSES = ["sky", "road", "car"]

IMAGES = {
    "array": PIXELS,
    "array, channels first": PIXELS.transpose(2, 0, 1),
    "floats": PIXELS.astype(np.float32) / 255,
    "64-bit integers": PIXELS.astype(np.int64),
    "tensor": torch.from_numpy(PIXELS).permute(2, 0, 1),
    "tensor of floats": torch.from_numpy(PIXELS).permute(2, 0, 1).float() / 255,
    "tensor with a gradient": (torch.from_numpy(PIXELS).permute(2, 0, 1) / 255).double().requires_grad_(),
    "tensor, channels last": torch.from_numpy(PIXELS),
    "PIL": Image.fromarray(PIXELS),
    "RGBA": np.dstack([PIXELS, PIXELS[..., :1]]),
}
MASKS = {
    "uint8": IDS,
    "int64": IDS.astype(np.int64),
    "tensor": torch.from_numpy(IDS).long(),
    "tensor (1, H, W)": torch.from_numpy(IDS)[None],
    "array (H, W, 1)": IDS[..., None],
    "PIL L": Image.fromarray(IDS),
    "PIL I": Image.fromarray(IDS.astype(np.int32)),
}


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_images_of_every_form_are_the_same_image(image):
    for item in ((image, IDS), [image, IDS], {"image": image, "annotation": IDS, "scene": 3}):
        sample = atrous.from_torch([item], classes=CLASSES).get(0)
        np.testing.assert_array_equal(sample.image, PIXELS)
        np.testing.assert_array_equal(sample.labels, LABELS)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_masks_of_every_form_are_the_same_mask(mask):
    dataset = atrous.from_torch([{"pixel_values": PIXELS, "labels": mask}], classes=CLASSES)
    np.testing.assert_array_equal(dataset.get(0).labels, LABELS)
    np.testing.assert_array_equal(dataset.label_space.encode(dataset.mask(0)), LABELS)


def test_grey_images_and_two_valued_masks():
    dataset = atrous.from_torch([(PIXELS[..., 0], IDS > 0)], classes=["no", "yes"])
    np.testing.assert_array_equal(dataset.get(0).image, np.repeat(PIXELS[..., :1], 3, axis=2))
    assert set(np.unique(dataset.get(0).labels)) == {0, 1}
    first = atrous.from_torch([(torch.zeros(1, 4, 6), IDS)], classes=CLASSES)
    assert first.get(0).image.shape == (4, 6, 3)


@pytest.mark.parametrize("size", [(3, 3), (3, 9), (9, 3), (1, 4), (4, 1)])
def test_the_mask_tells_channels_from_rows_where_sizes_could_be_either(size):
    pixels, ids = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8), np.zeros(size, np.int64)
    first = atrous.from_torch([(pixels.transpose(2, 0, 1), ids)], classes=["a"]).get(0)
    assert first.image.shape == (*size, 3)
    if size != (3, 3):  # cannot be told apart: PyTorch's order is taken
        np.testing.assert_array_equal(first.image, pixels)
        np.testing.assert_array_equal(atrous.from_torch([(pixels, ids)], classes=["a"]).get(0).image, pixels)


def test_ignored_values_may_lie_outside_of_the_ids():
    mask = np.array([[0, -100, 70_000, 1]])
    dataset = atrous.from_torch([(PIXELS[:1, :4], mask)], classes={0: "a", 1: "b"}, ignore=[-100, 70_000])
    assert dataset.get(0).labels.tolist() == [[0, IGNORE_INDEX, IGNORE_INDEX, 1]]
    assert set(np.unique(dataset.mask(0))) <= {*dataset.label_space.ids, *dataset.label_space.ignored_ids}


class Squares(torch.utils.data.Dataset):
    """A data set of PyTorch as anybody writes it, here with augmentation of its own."""

    def __init__(self, seeds, *, is_random=False):
        self.seeds, self.is_random = seeds, is_random

    def __len__(self):
        return len(self.seeds)

    def __getitem__(self, index):
        generator = np.random.default_rng(self.seeds[index])
        mask = np.kron(generator.integers(0, 2, (4, 4)), np.ones((17, 17), int))
        image = np.stack([mask * 200 + 20] * 3) + generator.integers(0, 20, (3, 68, 68))
        if self.is_random:
            image = image * float(0.5 + 0.5 * torch.rand(()))
        return torch.tensor(image, dtype=torch.float32) / 255, torch.tensor(mask)


def test_a_data_set_of_pytorch_is_trained_on_scored_and_read_by_workers(tmp_path):
    train, val = (
        atrous.from_torch(Squares(seeds, is_random=is_random), classes=["a", "b"])
        for seeds, is_random in (((0, 1, 2), True), ((7,), False))
    )
    run = atrous.train(
        (train, val), model="fcn-tiny", weights="none", out=tmp_path / "run", iterations=2, batch=2, crop=33, workers=1
    )
    assert [note.code for note in run.notes if note.code == "random-samples"] == ["random-samples"]
    assert run.scores.data == "Squares val"
    assert atrous.evaluate(run, val).miou == pytest.approx(run.scores.miou)
    copied = pickle.loads(pickle.dumps(val))
    np.testing.assert_array_equal(copied.get(0).image, val.get(0).image)


class Stream(IterableDataset):
    def __iter__(self):
        return iter([])


@pytest.mark.parametrize(
    ("dataset", "message", "hint"),
    [
        (Stream(), "Stream has no length", "pairs"),
        (DataLoader(Squares([1])), "DataLoader has no length or no items", "loader.dataset"),
        ({"train": [1], "test": [2]}, "a dict of 'train', 'test'", "one of its splits"),
        ([(PIXELS, IDS, {})], "item 0: tuple of 3", "pairs"),
        ([PIXELS], "item 0: ndarray", "pairs"),
        ([{"image": PIXELS}], "a dict with image", "one mask"),
        ([{"image": PIXELS, "a": IDS, "b": IDS}], "a dict with image, a, b", "one mask"),
        ([(PIXELS.astype(np.float32), IDS)], "floats from 0 to 255", "Leave out Normalize"),
        ([(PIXELS / 255.0 - 0.5, IDS)], "floats from -0.5 to 0.5", "Leave out Normalize"),
        ([(np.full((4, 6, 3), np.nan), IDS)], "floats from nan", "Leave out Normalize"),
        ([(PIXELS.astype(np.int32) - 1, IDS)], "int32 from -1", "uint8"),
        ([(np.zeros((4, 6, 5)), IDS)], "the image is an array (4, 6, 5), the mask is 4x6", "at the same size"),
        ([(PIXELS, IDS / 255)], "array (4, 6) of float64", "PILToTensor"),
        ([(PIXELS, np.stack([IDS] * 3))], "array (3, 4, 6)", "one class id for each pixel"),
        ([(PIXELS, IDS.astype(int) - 9)], "the mask holds -9 (6 pixels)", "ignore=[255, -9]"),
        ([(PIXELS, IDS[:2])], "the mask is 2x6", "at the same size"),
        ([], "list is empty", "at least one"),
        ([(PIXELS, IDS + 3)], "ids outside the classes", "Classes have the ids 0 to 2"),
    ],
)
def test_another_form_is_refused_at_once_in_words(dataset, message, hint):
    with pytest.raises(AtrousError) as caught:
        atrous.from_torch(dataset, classes=CLASSES)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_plain_data_sets_are_refused_with_the_way_to_adapt_them():
    plain = Squares([1])
    for pair in ((plain, plain), (Subset(plain, [0]), plain)):
        with pytest.raises(AtrousError, match=r"atrous\.from_torch"):
            atrous.train(pair)
    with pytest.raises(AtrousError, match="the same data set"):
        atrous.train((atrous.from_torch(plain, classes=["a", "b"]), atrous.from_torch(plain, classes=["a", "b"])))
    assert isinstance(atrous.from_torch(plain, classes=["a", "b"]).get(0), Sample)
