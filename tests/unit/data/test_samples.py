from __future__ import annotations

import threading

import numpy as np
import pytest

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
    dataset = Made(make([[0]]), make(np.array([[0, value, value]], dtype), key="b/photo"))
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
        (make([[0]], image=np.zeros((1, 1, 3))), r"the image is an array \(1, 1, 3\) of float64"),
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
    good = Made(make([[0, 1]]))
    assert read_splits((good, good)).train is good
    with pytest.raises(DataError, match="labels hold 7"):
        read_splits((good, Made(make([[7]]))))
    with pytest.raises(DataError, match="1 key of several samples: k0"):
        read_splits((good, Made(make([[0]]), make([[1]]), keys=["k0", "k0"])))
    with pytest.raises(UsageError, match="int has no __len__"):
        read_splits((good, 3))
