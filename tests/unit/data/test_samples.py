from __future__ import annotations

import errno
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from atrous.core.errors import DataError, UsageError
from atrous.core.labels import IGNORE_INDEX, LabelSpace
from atrous.core.records import Sample
from atrous.data.augment.pipeline import Augmentation
from atrous.data.build import read_splits
from atrous.data.samples import read_sample
from atrous.data.sampling import Stream, iter_batches


class Made:
    """A Python data set as a user writes it; it says nothing of threads."""

    name = "mine"
    label_space = LabelSpace(("a", "b", "c"))

    def __init__(self, *samples, keys=None):
        self.samples = samples
        self.keys = keys or [f"k{index}" for index in range(len(samples))]
        self.threads = set()

    def __len__(self):
        return len(self.samples)

    def get(self, index):
        self.threads.add(threading.get_ident())
        return self.samples[index]

    def key(self, index):
        return self.keys[index]

    def mask(self, index):
        return self.samples[index].labels

    def image_path(self, index):
        return None

    mask_path = image_path


def make(labels, image=None, key="k0") -> Sample:
    labels = np.asarray(labels)
    return Sample(key, np.zeros((*labels.shape, 3), np.uint8) if image is None else image, labels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_labels_of_every_integer_type_become_uint16(dtype):
    sample = read_sample(Made(make(np.array([[0, 1, 2]], dtype))), 0)
    assert sample.labels.dtype == np.uint16
    assert sample.labels.tolist() == [[0, 1, 2]]


def test_ignored_pixels_are_in_range_and_sound_samples_are_not_copied():
    given = make(np.array([[0, IGNORE_INDEX, 2]], np.uint16))
    assert read_sample(Made(given), 0) is given
    assert read_sample(Made(make([[0, IGNORE_INDEX]])), 0).labels.tolist() == [[0, IGNORE_INDEX]]
    assert read_sample(Made(make(np.zeros((0, 4), np.uint16))), 0).labels.shape == (0, 4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int64])
@pytest.mark.parametrize("value", [3, 255, -100, 65534])
def test_labels_out_of_range_are_refused_with_index_key_and_value(dtype, value):
    if not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
        pytest.skip("not a value of this type")
    dataset = Made(make([[0]]), make(np.array([[0, value, value]], dtype), key="b/photo"), keys=["a", "b/photo"])
    with pytest.raises(
        DataError, match=rf"mine: sample 1 \('b/photo'\): the labels hold {value} \(2 pixels\)"
    ) as caught:
        read_sample(dataset, 1)
    assert "0 to 2" in caught.value.hint
    assert "65535" in caught.value.hint


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ((np.zeros((2, 2, 3)), np.zeros((2, 2))), "sample 0 is of type tuple, without key"),
        (make([[0]], image=np.zeros((1, 1, 3))), r"the image is an array \(1, 1, 3\) of float64 from 0 to 0"),
        (make([[0]], image=torch.zeros(3, 1, 1)), "the image is of type Tensor"),
        (make([[0]], image=Image.new("RGB", (1, 1))), "the image is of type Image"),
        (make([[0]], key="other"), "its key from the method key is 'k0'"),
        (make([[0]], image=np.zeros((3, 1, 1), np.uint8)), r"the image is an array \(3, 1, 1\)"),
        (make([[0]], image="photo.jpg"), "the image is of type str"),
        (make([[0.0]]), r"the labels are an array \(1, 1\) of float64"),
        (make([[[0]]], image=np.zeros((1, 1, 3), np.uint8)), r"the labels are an array \(1, 1, 1\)"),
        (make([[True]]), "of bool"),
    ],
)
def test_another_form_is_refused_with_an_error_message(sample, message):
    with pytest.raises(UsageError, match=message):
        read_sample(Made(sample), 0)


def test_sizes_that_differ_are_named():
    with pytest.raises(DataError, match=r"image is 2x4 .*labels are 4x2"):
        read_sample(Made(make(np.zeros((4, 2), np.uint16), image=np.zeros((2, 4, 3), np.uint8))), 0)


def test_the_stream_checks_before_the_loss():
    stream = Stream(Made(make([[0, 255]])), Augmentation(crop=2), seed=0)
    with pytest.raises(DataError, match="255"):
        list(iter_batches(stream, batch=1, start_place=0, num_places=1, workers=0))


def test_a_pair_of_data_sets_is_looked_at_before_a_training():
    good, other = Made(make([[0, 1]])), Made(make([[0, 2]]))
    assert read_splits((good, other)).train is good
    with pytest.raises(DataError, match="labels hold 7"):
        read_splits((good, Made(make([[7]]))))
    with pytest.raises(DataError, match="1 key of several samples: k0"):
        read_splits((good, Made(make([[0]]), make([[1]]), keys=["k0", "k0"])))
    with pytest.raises(UsageError, match="int has no __len__"):
        read_splits((good, 3))


class Odd(Made):
    """A data set with one thing wrong, at every call or in one sample."""

    def __init__(self, **wrong):
        super().__init__(*(make([[0, 1]], key=f"k{index}") for index in range(3)))
        for name, value in wrong.items():
            setattr(self, name, value)

    def __len__(self):
        return getattr(self, "length", 3)


def fail(error):
    def method(index):
        raise error

    return method


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"length": 9}, "mine: sample 3 of 9: IndexError: list index out of range\nThe data set raised this error."),
        ({"length": 0}, "mine: no images"),
        ({"length": -1}, "its length is no whole number"),
        ({"length": 2.5}, "its length is no whole number"),
        ({"label_space": ["a", "b"]}, "label_space is of type list"),
        ({"keys": [0, 1, 2]}, "the key of sample 0 is 0"),
        ({"keys": ["a", "a", "b"]}, "1 key of several samples: a"),
        ({"keys": ["a", "b", "c"]}, "its key from the method key is 'a'"),
        ({"get": fail(KeyError("photo"))}, "mine: sample 0 of 3: KeyError: 'photo'"),
        ({"get": fail(FileNotFoundError(2, "No such file", "a.jpg"))}, r"sample 0 of 3 cannot be read: .*a\.jpg"),
        ({"get": lambda index: (np.zeros((1, 2, 3), np.uint8), np.zeros((1, 2), int))}, "of type tuple, without key"),
        ({"get": lambda index: None}, "of type NoneType, without key"),
        ({"get": lambda index: make([[0, 5]], key=f"k{index}")}, "the labels hold 5"),
    ],
)
def test_what_a_data_set_promises_is_checked_in_both_sets_before_anything_is_done(wrong, message):
    for pair in ((Odd(**wrong), Odd()), (Odd(), Odd(**wrong))):
        with pytest.raises((UsageError, DataError), match=message) as caught:
            read_splits(pair)
        assert caught.value.hint or "length" in message


def test_memory_and_open_files_that_run_out_are_not_the_data_sets_fault():
    words = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"
    lacks = [OSError(number, "") for number in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EDQUOT)]
    for error in (MemoryError(), RuntimeError(words), *lacks):  # the second is PyTorch's
        with pytest.raises(type(error), check=lambda caught, error=error: caught is error):
            read_sample(Odd(get=fail(error)), 0)


def test_random_samples_are_for_training_alone():
    generator = np.random.default_rng(0)
    random = {"get": lambda index: make(generator.integers(0, 3, (9, 9)), key=f"k{index}")}
    splits = read_splits((Odd(**random), Odd()))
    assert not splits.is_repeatable
    assert [note.code for note in splits.notes] == ["random-samples"]
    with pytest.raises(UsageError, match="its samples change from call to call"):
        read_splits((Odd(), Odd(**random)))


def test_one_data_set_is_not_both_to_train_on_and_to_score_on():
    dataset = Odd()
    with pytest.raises(UsageError, match="the same data set"):
        read_splits((dataset, dataset))
