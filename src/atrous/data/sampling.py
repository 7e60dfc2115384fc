"""The endless stream of training samples: what stands at a place depends on (seed, place) and on nothing else."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from atrous.core.errors import AtrousError, DataError, MachineError, UsageError
from atrous.core.records import Sample
from atrous.core.seeds import compute_epoch_order, sample_generator
from atrous.data.augment.pipeline import Augmentation
from atrous.data.contracts import SegmentationDataset
from atrous.data.samples import read_sample


@dataclass(frozen=True)
class Batch:
    """Samples of neighbouring places.

    Args:
        images: (B, 3, H, W) uint8 RGB.
        labels: (B, H, W) int64 class indices, IGNORE_INDEX where ignored.
        keys: The samples' names, (B,).
        places: Their places in the stream, (B,).
    """

    images: Tensor
    labels: Tensor
    keys: tuple[str, ...]
    places: tuple[int, ...]


class Stream:
    """Passes over a data set, one after another without end, each in its own random order, augmented.

    Any place can be asked for at any time, so a run starts again at a place without having to know what came before.

    Args:
        dataset: What is sampled.
        augmentation: What happens to a sample.
        seed: Seed of order and augmentation.
        one_pass: The images of a pass by index, (n,); every image once where left out.
    Raises:
        DataError: The data set is empty.
    """

    def __init__(
        self, dataset: SegmentationDataset, augmentation: Augmentation, seed: int, one_pass: np.ndarray | None = None
    ) -> None:
        if len(dataset) == 0:
            raise DataError(f"{dataset.name}: no images to train on")
        self.dataset = dataset
        self.augmentation = augmentation
        self.seed = seed
        self.one_pass = np.arange(len(dataset)) if one_pass is None else one_pass
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def sample(self, place: int) -> Sample:
        """Return the augmented sample at a place, 0 or above.

        Raises:
            DataError: Its files cannot be read; the message names them.
        """
        epoch, position = divmod(place, len(self.one_pass))
        if epoch != self._epoch:
            self._order = self.one_pass[compute_epoch_order(self.seed, epoch, len(self.one_pass))]
            self._epoch = epoch
        sample = read_sample(self.dataset, int(self._order[position]))
        image, labels = self.augmentation(sample.image, sample.labels, sample_generator(self.seed, place))
        return Sample(sample.key, image, labels)


def repeat_images(is_hard: np.ndarray, repeats: int) -> np.ndarray:
    """List the images of a pass: each once, those with something hard repeatedly.

    Args:
        is_hard: Whether each of N images holds each of M hard classes, (N, M) bool.
        repeats: How often those that hold one stand in a pass.
    Returns: Indices of images, ascending, (n,) with n >= N.
    Source: Chen et al. 2017 (arXiv 1706.05587), section 4.2: images with hard classes are duplicated.
    """
    return np.repeat(np.arange(len(is_hard)), np.where(is_hard.any(axis=1), repeats, 1))


def iter_batches(stream: Stream, *, batch: int, start_place: int, num_places: int, workers: int) -> Iterator[Batch]:
    """Yield the stream from `start_place` on, the same whatever the number of workers.

    Args:
        stream: What is read.
        batch: Samples in a batch.
        start_place: First place, 0 or above.
        num_places: How many places; a multiple of `batch`, so that no batch is smaller than the others.
        workers: Processes that read and augment; 0 reads in this one.

    Raises:
        UsageError: `num_places` is no multiple of `batch`.
        DataError: A file cannot be read.
        MachineError: A worker died.
    """
    if num_places % batch:
        raise UsageError(f"{num_places} places do not make whole batches of {batch}")
    loader: DataLoader[Sample] = DataLoader(
        _PlaceDataset(stream),
        batch_size=batch,
        sampler=range(start_place, start_place + num_places),
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # else the loader would draw from the global one
    )
    try:
        for item in loader:
            if isinstance(item, AtrousError):
                raise item
            yield item
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise MachineError(
            f"a process that reads images died: {error}", "Fewer workers need less memory: --workers 0."
        ) from error


class _PlaceDataset(Dataset[Sample]):
    """The stream as torch wants it. Errors are handed over as items: torch would wrap theirs in a long trace."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def __getitem__(self, place: int) -> tuple[int, Sample | AtrousError]:  # type: ignore[override]
        try:
            return place, self.stream.sample(place)
        except AtrousError as error:
            return place, error


def _collate(items: Sequence[tuple[int, Sample | AtrousError]]) -> Batch | AtrousError:
    samples = []
    for _, sample in items:
        if isinstance(sample, AtrousError):
            return sample
        samples.append(sample)
    return Batch(
        images=torch.from_numpy(np.stack([sample.image.transpose(2, 0, 1) for sample in samples])),
        labels=torch.from_numpy(np.stack([sample.labels for sample in samples]).astype(np.int64)),
        keys=tuple(sample.key for sample in samples),
        places=tuple(place for place, _ in items),
    )


def _start_worker(_: int) -> None:
    """One thread a worker: there are as many workers as cores to use.

    A signal to the whole process group is the main process's affair: it ends its step and then its workers.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
