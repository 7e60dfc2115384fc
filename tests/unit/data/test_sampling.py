from __future__ import annotations

import errno
import gc
import itertools
import multiprocessing.synchronize
import os
import pickle
import re
import time

import numpy as np
import pytest
import torch
from PIL import Image

from atrous.core.errors import DataError, MachineError, UsageError
from atrous.core.labels import IGNORE_INDEX, LabelSpace
from atrous.data.augment.pipeline import Augmentation
from atrous.data.inventory import Pair
from atrous.data.pairs import PairDataset
from atrous.data.sampling import Stream, _collate_and_share, iter_batches, repeat_images


@pytest.fixture
def dataset(tmp_path) -> PairDataset:
    generator = np.random.default_rng(0)
    pairs = []
    for number in range(5):
        image, mask = tmp_path / f"{number}_image.png", tmp_path / f"{number}.png"
        Image.fromarray(generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(image)
        Image.fromarray(generator.choice([0, 1, 255], (20, 24)).astype(np.uint8)).save(mask)
        pairs.append(Pair(str(number), str(image), str(mask)))
    return PairDataset("mine", LabelSpace(("a", "b")), tuple(pairs))


def read(dataset, *, workers=0, start=0, places=12, batch=4, seed=3):
    stream = Stream(dataset, Augmentation(crop=17, jitter=0.5), seed)
    return list(iter_batches(stream, batch=batch, start_place=start, num_places=places, workers=workers))


def assert_equal(left, right):
    for one, other in zip(left, right, strict=True):
        assert one.keys == other.keys
        assert one.places == other.places
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_a_worker_hands_over_5_bytes_a_pixel(dataset):
    """Images of 8 bits as 3 bytes and labels as 2; what it pickles besides are references to shared memory."""
    stream = Stream(dataset, Augmentation(crop=17), 3)
    handed = pickle.loads(_collate_and_share([(place, stream.sample(place)) for place in range(4)]))
    assert handed.images.untyped_storage().nbytes() + handed.labels.untyped_storage().nbytes() == 4 * 5 * 17**2
    assert handed.images.is_shared()
    assert handed.labels.is_shared()


def test_batches_have_the_promised_form(dataset):
    batches = read(dataset)
    assert len(batches) == 3
    for number, batch in enumerate(batches):
        assert batch.images.shape == (4, 3, 17, 17)
        assert batch.images.dtype == torch.uint8
        assert batch.labels.shape == (4, 17, 17)
        assert batch.labels.dtype == torch.int64
        assert set(batch.labels.unique().tolist()) <= {0, 1, IGNORE_INDEX}
        assert batch.places == tuple(range(4 * number, 4 * number + 4))


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_identical_batches(dataset, workers):
    assert_equal(read(dataset, workers=0), read(dataset, workers=workers))


def test_it_starts_at_any_place_as_if_it_had_run_till_there(dataset):
    whole = read(dataset, places=20)
    assert_equal(whole[3:], read(dataset, start=12, places=8))


def test_each_epoch_is_a_permutation_and_augments_anew(dataset):
    stream = Stream(dataset, Augmentation(crop=17), seed=0)
    epochs = [[stream.sample(5 * epoch + place) for place in range(5)] for epoch in range(4)]
    orders = [[sample.key for sample in epoch] for epoch in epochs]
    assert all(sorted(order) == list("01234") for order in orders)
    assert len({tuple(order) for order in orders}) > 1
    crops = [next(sample.image for sample in epoch if sample.key == "0").tobytes() for epoch in epochs]
    assert len(set(crops)) == 4


def test_seed_changes_order_and_augmentation(dataset):
    (one,), (other,) = (read(dataset, seed=seed, batch=12) for seed in (1, 2))
    assert one.keys != other.keys
    alike = [place for place in range(12) if one.keys[place] == other.keys[place]]
    assert alike
    assert not any(torch.equal(one.images[place], other.images[place]) for place in alike)


def test_fewer_images_than_a_batch_still_fill_it(dataset):
    (batch,) = read(dataset, batch=12)
    assert batch.images.shape[0] == 12
    assert set(batch.keys) == set("01234")


def test_no_batch_is_ever_incomplete(dataset):
    with pytest.raises(UsageError, match="13 places cannot be cut into batches of 4"):
        read(dataset, places=13)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_names_its_file_and_nothing_else(dataset, workers):
    path = dataset.image_path(2)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError) as caught:
        read(dataset, workers=workers)
    assert str(path) in caught.value.message
    assert "Traceback" not in str(caught.value)
    assert caught.value.hint


def test_reading_leaves_the_global_generators_alone(dataset):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    numpy_before = np.random.get_state()[1].tolist()
    read(dataset, workers=0)
    assert torch.equal(before, torch.get_rng_state())
    assert numpy_before == np.random.get_state()[1].tolist()


def test_workers_use_one_thread(dataset):
    import cv2

    class Threads(PairDataset):
        def get(self, index):
            raise DataError(f"torch {torch.get_num_threads()} opencv {cv2.getNumThreads()}")

    with pytest.raises(DataError, match=r"torch 1 opencv [01]"):
        read(Threads("mine", dataset.label_space, dataset.pairs), workers=1)


@pytest.mark.timeout(60)  # a batch that is lost between processes is waited for without end
@pytest.mark.parametrize(
    ("owner", "name", "failure"),
    [
        (torch.UntypedStorage, "_share_fd_cpu_", RuntimeError("unable to allocate shared memory(shm)")),
        (torch.UntypedStorage, "_share_fd_cpu_", OSError(errno.EMFILE, "Too many open files")),
        (torch.multiprocessing.reductions, "rebuild_storage_fd", RuntimeError("received 0 items of ancdata")),
        (torch.multiprocessing.reductions, "rebuild_storage_fd", OSError(errno.EMFILE, "Too many open files")),
        (multiprocessing.synchronize.SemLock, "__init__", OSError(errno.EROFS, "Read-only file system")),
        (multiprocessing.synchronize.SemLock, "__init__", OSError(errno.ENOSPC, "No space left on device")),
        (torch.multiprocessing.reductions, "rebuild_storage_fd", EOFError()),
        (os, "fork", BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_processes_that_cannot_start_or_pass_on_images_are_an_error(dataset, monkeypatch, owner, name, failure):
    def fail(*_: object, **__: object):
        raise failure

    fail.__module__, fail.__qualname__ = getattr(owner, "__name__", ""), name  # pickled by its name
    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(MachineError, match=re.escape(str(failure.args[-1]) if failure.args else "EOFError")) as caught:
        read(dataset, workers=2)
    assert caught.value.message.count("processes that read images") == 1
    assert "workers=0" in caught.value.hint


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("failure", "expected", "message"),
    [
        (OSError(errno.EMFILE, "Too many open files"), MachineError, "open files"),
        (OSError(errno.ENOSPC, "No space left on device"), MachineError, "no space left on the disk"),
        (MemoryError(), MachineError, "out of memory"),
        (RuntimeError("can't start new thread"), MachineError, "no more threads"),
        (RuntimeError("augmentation bug"), RuntimeError, "augmentation bug"),
        (OSError("augmentation bug"), OSError, "augmentation bug"),
        (ValueError("augmentation bug"), ValueError, "augmentation bug"),
    ],
    ids=lambda value: f"{value!r}" if isinstance(value, Exception) else "",
)
def test_a_failure_in_a_process_keeps_its_reason(dataset, workers, failure, expected, message):
    def fail(*_: object):
        raise failure

    batches = iter_batches(Stream(dataset, fail, 0), batch=2, start_place=0, num_places=2, workers=workers)
    before = set(multiprocessing.active_children())
    with pytest.raises(expected, match=message) as caught:
        next(batches)
    assert set(multiprocessing.active_children()) <= before
    assert "processes that read images" not in str(caught.value)
    assert isinstance(caught.value, MachineError) == (expected is MachineError)


@pytest.mark.timeout(60)
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_processes_end_if_not_all_of_them_can_start(dataset, monkeypatch):
    forks = itertools.count()
    fork = os.fork

    started, kept = multiprocessing.active_children(), []

    def fail_the_second_time() -> int:
        if not next(forks):
            return fork()
        monkeypatch.setattr(os, "fork", fork)
        kept.append(multiprocessing.Process(target=time.sleep, args=(60,), daemon=True))
        kept[0].start()  # as another thread of the caller does meanwhile
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fail_the_second_time)
    with pytest.raises(MachineError):
        read(dataset, workers=2)
    gc.collect()
    for process in set(multiprocessing.active_children()) - {*started, *kept}:
        process.join(20)
        assert not process.is_alive()
    kept[0].join(0.5)
    assert kept[0].is_alive()
    kept[0].kill()


def test_empty_data_is_refused(dataset):
    with pytest.raises(DataError, match="no images"):
        Stream(PairDataset("mine", dataset.label_space, ()), Augmentation(crop=17), 0)


def test_a_stream_is_read_lazily(dataset):
    stream = Stream(dataset, Augmentation(crop=17), 0)
    batches = iter_batches(stream, batch=2, start_place=0, num_places=2_000_000, workers=0)
    assert len(list(itertools.islice(batches, 3))) == 3


def test_images_with_something_hard_stand_repeatedly():
    is_hard = np.array([[0, 0], [1, 0], [0, 0], [1, 1]], dtype=bool)
    assert repeat_images(is_hard, 3).tolist() == [0, 1, 1, 1, 2, 3, 3, 3]
    assert repeat_images(is_hard[:, :0], 3).tolist() == [0, 1, 2, 3]


def test_every_pass_holds_the_repeated_images_in_an_order_of_its_own(dataset):
    one_pass = repeat_images(np.arange(len(dataset))[:, None] < 2, 2)
    stream = Stream(dataset, Augmentation(crop=17), 3, one_pass)
    length = len(dataset) + 2
    keys = [stream.sample(place).key for place in range(2 * length)]
    expected = sorted(dataset.key(index) for index in [*range(len(dataset)), 0, 1])
    assert sorted(keys[:length]) == sorted(keys[length:]) == expected
    assert keys[:length] != keys[length:]
    again = Stream(dataset, Augmentation(crop=17), 3, one_pass)
    assert again.sample(length + 1).key == keys[length + 1]  # a function of the place, whatever was read before
    first, second = (place for place in range(length) if keys[place] == dataset.key(0))
    assert not np.array_equal(stream.sample(first).image, stream.sample(second).image)  # augmented each time anew
