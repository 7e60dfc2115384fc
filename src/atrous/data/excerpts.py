"""Crops of a few training images, held in memory as a data set of their own: what a probe learns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from atrous.core.errors import DataError
from atrous.core.labels import IGNORE_INDEX, LabelSpace
from atrous.core.records import Sample
from atrous.core.seeds import compute_epoch_order
from atrous.core.words import describe_count
from atrous.data.contracts import SegmentationDataset, describe_dataset
from atrous.data.samples import find_form, read_sample, require_mask
from atrous.data.statistics import MaskStatistics, compute_class_weights

MOST_LOOKED_AT = 64
"""Masks that are read to choose the images."""
PLACES_PER_CLASS = 16
"""Places of the crop that are compared in an image, each centred on a pixel of a class that it shows."""
FEWEST_PIXELS = 64
"""A class with fewer pixels does not count as shown: at output stride 16 it is less than a cell."""
SHOWN_AGAIN = 0.25
"""What a class counts in the second image that the first one shows, as a share of what it counted there."""


class Excerpts:
    """Samples in memory, as a data set.

    Args:
        source: The data set that they are of.
        samples: The samples, at least one.
    """

    def __init__(self, source: SegmentationDataset, samples: Sequence[Sample]) -> None:
        self.name = f"{source.name}, {describe_count(len(samples), 'crop')}"
        self.label_space: LabelSpace = source.label_space
        self.form = find_form(source)
        self.samples = tuple(samples)

    def __repr__(self) -> str:
        return describe_dataset(self)

    def __len__(self) -> int:
        return len(self.samples)

    def get(self, index: int) -> Sample:
        """Return the image and its labels as class indices."""
        return self.samples[index]

    def key(self, index: int) -> str:
        """Return the name of the image."""
        return self.samples[index].key

    def mask(self, index: int) -> np.ndarray:
        """Return the raw ids, (H, W)."""
        labels, space = self.samples[index].labels, self.label_space
        return space.decode(np.minimum(labels, space.num_classes - 1), labels == IGNORE_INDEX)

    def image_path(self, index: int) -> Path | None:
        """Return None: a crop has no file of its own."""
        return None

    def mask_path(self, index: int) -> Path | None:
        """Return None: a crop has no file of its own."""
        return None

    def compute_statistics(self) -> MaskStatistics:
        """Count what the labels hold."""
        counts = np.stack([_count_pixels(sample.labels, self.label_space) for sample in self.samples])
        ignored = sum(int((sample.labels == IGNORE_INDEX).sum()) for sample in self.samples)
        return MaskStatistics(
            pixels=counts.sum(axis=0),
            presence=counts > 0,
            ignored={self.label_space.void_id: ignored} if ignored else {},
            num_masks=len(self.samples),
            longest_side_px=max(side for sample in self.samples for side in sample.labels.shape),
        )


def choose_excerpts(dataset: SegmentationDataset, crop: int, seed: int, count: int = 2) -> Excerpts:
    """Choose images that show as many classes as possible, rare ones before frequent ones, and cut a crop from each.

    Args:
        dataset: The data; at most `MOST_LOOKED_AT` masks are read, of images that are drawn.
        crop: Side of the crops in pixels; an image that is smaller is taken as a whole.
        seed: What images and places are drawn from.
        count: Number of images; fewer if the data have fewer.
    Raises:
        DataError: A file cannot be read, or no mask that was read has a pixel of a class.
    """
    space = dataset.label_space
    looked_at = compute_epoch_order(seed, 0, len(dataset))[:MOST_LOOKED_AT].tolist()
    pixels = np.stack([_count_pixels(space.encode(require_mask(dataset, index)), space) for index in looked_at])
    if not pixels.any():
        raise DataError(
            f"{dataset.name}: no pixel of a class in {describe_count(len(looked_at), 'mask')}: all are ignored",
            "See data.ignore, data.classes and data.label_map: `atrous check DATA` lists the ids that masks hold.",
        )
    weights = np.array(compute_class_weights(pixels.sum(axis=0))) * pixels.any(axis=0)
    generator = np.random.default_rng((seed, len(dataset)))
    samples: list[Sample] = []
    for _ in range(min(count, int(pixels.any(axis=1).sum()))):
        rates = (pixels >= FEWEST_PIXELS) @ weights
        row = int(np.where(pixels.any(axis=1), rates, -1.0).argmax())
        sample = _cut(read_sample(dataset, looked_at[row]), crop, weights, generator)
        weights[_count_pixels(sample.labels, space) >= FEWEST_PIXELS] *= SHOWN_AGAIN
        pixels[row] = 0
        samples.append(sample)
    return Excerpts(dataset, samples)


def _cut(sample: Sample, crop: int, weights: np.ndarray, generator: np.random.Generator) -> Sample:
    """Return the crop of a sample that shows most classes by their weights, among some that are drawn."""
    height, width = sample.labels.shape
    places = []
    for number in np.unique(sample.labels[sample.labels != IGNORE_INDEX]).tolist():
        centres = generator.choice(np.flatnonzero(sample.labels == number), PLACES_PER_CLASS)
        tops = np.clip(centres // width - crop // 2, 0, max(height - crop, 0))
        lefts = np.clip(centres % width - crop // 2, 0, max(width - crop, 0))
        places += np.stack([tops, lefts], axis=1).tolist()

    def rate(place: list[int]) -> float:
        labels = sample.labels[place[0] : place[0] + crop, place[1] : place[1] + crop]
        counts = np.bincount(labels[labels != IGNORE_INDEX], minlength=len(weights))
        return float(weights @ (counts >= FEWEST_PIXELS) + counts.sum() / labels.size)

    top, left = max(places, key=rate)
    rows, columns = slice(top, top + crop), slice(left, left + crop)
    image, labels = (np.ascontiguousarray(pixels[rows, columns]) for pixels in (sample.image, sample.labels))
    return Sample(sample.key, image, labels)


def _count_pixels(labels: np.ndarray, space: LabelSpace) -> np.ndarray:
    counts: np.ndarray = np.bincount(labels[labels != IGNORE_INDEX], minlength=space.num_classes)
    return counts
