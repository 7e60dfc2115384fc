"""The endless stream of training samples: the sample at a place depends on (seed, place) and on nothing else."""

from __future__ import annotations

import itertools
import pickle
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.reduction import ForkingPickler

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from atrous.core.errors import AtrousError, DataError, MachineError, UsageError
from atrous.core.interruption import STOP_SIGNALS
from atrous.core.records import Sample
from atrous.core.seeds import compute_epoch_order, sample_generator
from atrous.core.system_errors import describe_reason, describe_shortage
from atrous.core.words import describe_count
from atrous.data.augment.pipeline import Augmentation
from atrous.data.cached import SampleCache
from atrous.data.contracts import SegmentationDataset
from atrous.data.rare import RareCrops, RareDraw
from atrous.data.samples import find_window, read_part


@dataclass(frozen=True)
class Batch:
    """Samples of consecutive places.

    Args:
        images: (B, 3, H, W) uint8 RGB; of images that are not of 8 bits (B, C, H, W) float32, the stored values. The
            channels are last in memory.
        labels: (B, H, W) int64 class indices, IGNORE_INDEX where ignored.
        keys: Names of the samples, (B,).
        places: Their places in the stream, (B,).
    """

    images: Tensor
    labels: Tensor
    keys: tuple[str, ...]
    places: tuple[int, ...]


class Stream:
    """Endless passes over a data set, each in its own random order, augmented.

    Any place can be read at any time, so a run resumes at a place without knowing what came before.

    Args:
        dataset: What is sampled.
        augmentation: How a sample is cropped and changed.
        seed: Seed of order and augmentation.
        one_pass: Indices of the images in one pass, (N,). Default: each image once.
        rare_crops: Which samples are centred on a rare class instead of drawn from the pass. Default: none.
        cache_bytes: Memory for decoded images, in each process that reads the stream.
    Raises:
        DataError: The data set is empty.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        augmentation: Augmentation,
        seed: int,
        one_pass: np.ndarray | None = None,
        *,
        rare_crops: RareCrops | None = None,
        cache_bytes: int = 0,
    ) -> None:
        if len(dataset) == 0:
            raise DataError(f"{dataset.name}: no images to train on")
        self.dataset = dataset
        self.augmentation = augmentation
        self.seed = seed
        self.one_pass = np.arange(len(dataset)) if one_pass is None else one_pass
        self.rare_crops = rare_crops
        self._cache = SampleCache(dataset, cache_bytes)
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def sample(self, place: int) -> Sample:
        """Return the augmented sample at a place, 0 or above.

        Raises:
            DataError: Its files cannot be read, or its labels are out of range; the message names them.
            UsageError: The data set returns another type than its contract says.
        """
        epoch, position = divmod(place, len(self.one_pass))
        if epoch != self._epoch:
            self._order = self.one_pass[compute_epoch_order(self.seed, epoch, len(self.one_pass))]
            self._epoch = epoch
        rare = None if self.rare_crops is None else self.rare_crops.draw(self.seed, place)
        index = int(self._order[position]) if rare is None else rare.index
        if (window := find_window(self.dataset, index)) is not None:
            return self._sample_window(index, window.size, rare, sample_generator(self.seed, place))
        sample = self._cache.read(index)
        centre = None if rare is None else rare.find_centre(sample.labels)
        image, labels = self.augmentation(sample.image, sample.labels, sample_generator(self.seed, place), centre)
        return Sample(sample.key, image, labels)

    def _sample_window(
        self, index: int, size: tuple[int, int], rare: RareDraw | None, generator: np.random.Generator
    ) -> Sample:
        """Return a sample of a block of a raster, of which only the part that the crop shows is read."""
        dataset = self.dataset
        centre = None if rare is None else rare.find_centre(dataset.label_space.encode(dataset.mask(index)))
        geometry = self.augmentation.draw(size, generator, centre)
        rows, columns = geometry.find_window(size)
        part = read_part(dataset, index, rows, columns)
        geometry = geometry.shift(rows.start, columns.start)
        return Sample(part.key, *self.augmentation.apply(part.image, part.labels, geometry, generator))


def repeat_images(is_hard: np.ndarray, repeats: int) -> np.ndarray:
    """List the images of a pass: each once, those that hold a hard class several times.

    Args:
        is_hard: Whether each of N images holds each of M hard classes, (N, M) bool.
        repeats: How often an image with a hard class occurs in a pass, >= 1.
    Returns:
        Indices of images, ascending, (P,) with P >= N.
    Source: Chen et al. 2017 (arXiv 1706.05587), section 4.2: images with hard classes are duplicated.
    """
    return np.repeat(np.arange(len(is_hard)), np.where(is_hard.any(axis=1), repeats, 1))


def iter_batches(
    stream: Stream,
    *,
    batch: int,
    start_place: int,
    num_places: int,
    workers: int,
    part: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """Yield batches of the stream from `start_place` on, equal for every number of workers.

    Args:
        stream: What is read.
        batch: Samples in a batch.
        start_place: First place, from 0.
        num_places: Number of places; a multiple of `batch`, so that all batches have one size.
        workers: Processes that read and augment; 0 reads in this one.
        part: (number, count): of each batch that of `count` equal parts with this number. Default: the whole batch.
    Raises:
        UsageError: `num_places` is not a multiple of `batch`, or `batch` of the parts.
        DataError: A file cannot be read, or labels are out of range.
        MachineError: A worker process cannot be started, cannot pass on what it read, or ended unexpectedly.
    """
    if num_places % batch:
        raise UsageError(f"{describe_count(num_places, 'place')} cannot be cut into batches of {batch}")
    number, count = part
    if batch % count:
        raise UsageError(f"a batch of {describe_count(batch, 'image')} cannot be cut into {count} equal parts")
    own = batch // count
    starts = range(start_place + number * own, start_place + num_places, batch)
    loader: DataLoader[Sample] = DataLoader(
        _PlaceDataset(stream),
        batch_size=own,
        sampler=itertools.chain.from_iterable(range(start, start + own) for start in starts),
        num_workers=workers,
        collate_fn=_collate_and_share if workers else _collate,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # otherwise the loader draws from the global one
    )
    try:
        for item in _WorkersIterator(loader) if workers else loader:
            batch_or_error: Batch | AtrousError = pickle.loads(item) if isinstance(item, bytes) else item
            if isinstance(batch_or_error, AtrousError):
                raise batch_or_error
            yield replace(batch_or_error, labels=batch_or_error.labels.long())
    except (RuntimeError, OSError, EOFError) as error:
        is_of_dataset = str(error).startswith("Caught ")  # torch's first word on an exception of a worker's own
        if not workers or isinstance(error, AtrousError) or is_of_dataset:
            raise
        raise _describe_failure(error) from error


class _WorkersIterator(_MultiProcessingDataLoaderIter):
    """PyTorch's iterator, which ends its processes where it fails: Python waits for them at its own end."""

    def __init__(self, loader: DataLoader[Sample]) -> None:
        try:
            super().__init__(loader)
        except BaseException:
            if not hasattr(self, "_workers_status"):  # half made: PyTorch's own end would fail, and print that
                self._shutdown = True
                for process in getattr(self, "_workers", ()):
                    process.kill()  # they ignore the signal with which Python ends them
            raise

    def __next__(self) -> Batch | AtrousError | bytes:
        try:
            return super().__next__()  # type: ignore[no-any-return]
        except BaseException:  # whose traceback keeps this iterator alive
            self._shutdown_workers()
            raise


def _describe_failure(error: Exception) -> MachineError:
    return MachineError(
        f"processes that read images fail: {describe_reason(error)}",
        "Use `workers=0`, or allow them more memory, shared memory (`docker run --shm-size=1g`) or open files "
        "(`ulimit -n 4096`).",
    )


class _PlaceDataset(Dataset[Sample]):
    """The stream as a torch data set. Errors are returned as items, since torch would wrap them in a long trace."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def __getitem__(self, place: int) -> tuple[int, Sample | AtrousError]:  # type: ignore[override]
        try:
            return place, self.stream.sample(place)
        except AtrousError as error:
            return place, error
        except Exception as error:
            shortage = describe_shortage(error)
            if shortage is None:
                raise
            return place, shortage


def _collate(items: Sequence[tuple[int, Sample | AtrousError]]) -> Batch | AtrousError:
    """Return a batch whose labels are uint16 still: this is what a worker process hands over."""
    samples = []
    for _, sample in items:
        if isinstance(sample, AtrousError):
            return sample
        samples.append(sample)
    images = np.stack([sample.image for sample in samples])
    return Batch(
        images=torch.from_numpy(images if images.dtype == np.uint8 else images.astype(np.float32)).permute(0, 3, 1, 2),
        labels=torch.from_numpy(np.stack([sample.labels for sample in samples])),
        keys=tuple(sample.key for sample in samples),
        places=tuple(place for place, _ in items),
    )


def _collate_and_share(items: Sequence[tuple[int, Sample | AtrousError]]) -> bytes | AtrousError:
    """Collate in a worker process, and move the batch to shared memory, to which the returned bytes refer.

    The loader's queue would move it in a thread that drops what fails: the training would wait for it indefinitely.
    """
    batch = _collate(items)
    if isinstance(batch, AtrousError):
        return batch
    try:
        return bytes(ForkingPickler.dumps(batch))
    except (RuntimeError, OSError) as error:
        return _describe_failure(error)


def _start_worker(_: int) -> None:
    """Use one thread per worker, since there are as many workers as usable cores.

    Signals to the process group are left to the main process, which finishes its step and then stops its workers.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
