"""Label images of a data set and count how each pixel was labelled; counts of several passes merge."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from atrous.core.errors import DataError
from atrous.core.labels import LabelSpace
from atrous.core.records import ImageScore, Progress, ProgressCallback, Sample
from atrous.core.system_errors import describe_reason, raise_shortage
from atrous.data.contracts import SegmentationDataset
from atrous.data.samples import find_group_name, is_thread_safe, read_as, read_sample
from atrous.inference.folders.prefetch import iter_ahead
from atrous.inference.labelling.labeller import Labeller, naming_image
from atrous.metrics.boundary import count_boundaries, count_parts
from atrous.metrics.calibration import ConfidenceCounts
from atrous.metrics.confusion import ConfusionMatrix, compute_miou, compute_tally

ImageCallback = Callable[[Labeller, Sample, np.ndarray, ImageScore], None]
"""Receives what labelled an image, the image, its labels (H, W) and its score."""


@dataclass(eq=False)
class Counts:
    """What was counted on some images of a data set.

    Args:
        total: Pixels by true and by predicted class.
        before_crf: The same without DenseCRF; None if it is not applied.
        images: Each image's own score, by its number in the data set.
        windows: Sides in pixels of the windows of images that do not fit in memory, by their number.
        tallies: What each image contributes to the scores of classes, see `compute_tally`, by its number.
        groups: The clip or scene of each image that is of one, by its number.
        bands: Tallies near boundaries of each image, see `count_boundaries`, by its number; empty without details.
        confidences: Pixels by confidence; None without details, or if the model gives labels alone.
        parts: Connected parts of the truth of each image, see `count_parts`, by its number; empty without details.
    """

    total: ConfusionMatrix
    before_crf: ConfusionMatrix | None = None
    images: dict[int, ImageScore] = field(default_factory=dict)
    windows: dict[int, int] = field(default_factory=dict)
    tallies: dict[int, np.ndarray] = field(default_factory=dict)
    groups: dict[int, str] = field(default_factory=dict)
    bands: dict[int, np.ndarray] = field(default_factory=dict)
    parts: dict[int, np.ndarray] = field(default_factory=dict)
    confidences: ConfidenceCounts | None = None

    def merge(self, other: Counts) -> None:
        """Add the counts of other images of the same data set."""
        self.total.merge(other.total)
        if self.before_crf is not None and other.before_crf is not None:
            self.before_crf.merge(other.before_crf)
        self.images |= other.images
        self.windows |= other.windows
        self.tallies |= other.tallies
        self.groups |= other.groups
        self.bands |= other.bands
        self.parts |= other.parts
        if self.confidences is not None and other.confidences is not None:
            self.confidences.merge(other.confidences)


def count(
    labeller: Labeller,
    dataset: SegmentationDataset,
    indices: Sequence[int] | None = None,
    *,
    detailed: bool = True,
    temperatures: Sequence[float] | None = None,
    on_image: ImageCallback | None = None,
    progress: ProgressCallback | None = None,
) -> Counts:
    """Label images, each at its own size, and compare them with their masks.

    The labels are those that a prediction of the same image has. Only a band of an image's rows is held as
    probabilities.

    Args:
        labeller: What labels, and how.
        dataset: Images with masks, whose classes are the labeller's.
        indices: Numbers of the images, none in a process whose share is empty. Default: all.
        detailed: Whether to count more than the confusion matrix.
        temperatures: Those of the confidences that are counted, each > 0. Default: 1, and the labeller's.
        on_image: Receives each image when it is counted: what labelled it, the image, its labels and its score.
        progress: Receives the progress.
    Raises:
        DataError: There are no images, the classes differ, or a file cannot be read, which is named.
        OutputError: The network's output is not finite for an image, which is named.
    """
    require_same_classes(labeller.label_space, dataset.label_space)
    dataset = read_as(dataset, labeller.form)
    chosen = range(len(dataset)) if indices is None else indices
    if len(dataset) == 0:
        raise DataError(f"{dataset.name} has no images to score")
    num_classes = labeller.label_space.num_classes
    found = Counts(ConfusionMatrix(num_classes), ConfusionMatrix(num_classes) if labeller.crf else None)
    if detailed and not labeller.backend.labels_only:
        both = dict.fromkeys((1.0, labeller.chosen.temperature))
        found.confidences = ConfidenceCounts(num_classes, tuple(both) if temperatures is None else temperatures)
    samples = _iter_samples(dataset, chosen, labeller.batch_size)
    while group := list(islice(samples, labeller.batch_size)):
        answers = labeller.run_network([sample.image for _, sample in group])
        for (index, sample), cells in zip(group, answers, strict=True):
            own = ConfusionMatrix(num_classes)
            rows, sampled = [], []
            with naming_image(sample.key):
                for band in labeller.iter_labels(sample.image, cells):
                    truth = sample.labels[band.start_row : band.start_row + len(band.indices)]
                    own.update(truth, band.indices)
                    rows.append(band.indices)
                    if found.before_crf is not None and band.indices_before_crf is not None:
                        found.before_crf.update(truth, band.indices_before_crf)
                    if found.confidences is not None and band.band is not None:
                        step = found.confidences.find_step(*sample.labels.shape)
                        log_probs, grid = band.band.sample_log_probs(step)
                        pixels = (labels[grid, ::step].reshape(-1) for labels in (truth, band.indices))
                        sampled.append((log_probs.flatten(1).cpu().numpy(), *pixels))
            if found.confidences is not None and sampled:
                found.confidences.update(*(np.concatenate(part, axis=-1) for part in zip(*sampled, strict=True)))
            found.total.merge(own)
            height, width = sample.labels.shape
            found.images[index] = ImageScore(sample.key, compute_miou(own.counts), height, width)
            found.tallies[index] = compute_tally(own.counts)
            labels = np.concatenate(rows).astype(np.uint16, copy=False)
            if on_image is not None:
                on_image(labeller, sample, labels, found.images[index])
            if detailed:
                found.bands[index] = count_boundaries(sample.labels, labels, num_classes)
                found.parts[index] = count_parts(sample.labels, labels)
            if (clip := find_group_name(dataset, index)) is not None:
                found.groups[index] = clip
            window = labeller.find_window(height, width)
            if window is not None and labeller.protocol.window is None:
                found.windows[index] = window
            if progress is not None:
                so_far = compute_miou(found.total.counts)
                note = "" if so_far is None else f"mIoU {so_far:.3f}"
                progress(Progress("scoring", len(found.images), len(chosen), note))
    return found


def _iter_samples(
    dataset: SegmentationDataset, indices: Sequence[int], batch_size: int
) -> Iterator[tuple[int, Sample]]:
    """Yield samples with their numbers; the next ones are read meanwhile if the data set allows it."""
    read = functools.partial(read_sample, dataset)
    for index, reading in iter_ahead(read, indices, ahead=batch_size if is_thread_safe(dataset) else 0):
        try:
            yield index, reading.result()
        except OSError as error:
            raise_shortage(error)
            raise DataError(
                f"cannot read {dataset.image_path(index) or dataset.key(index)}: {describe_reason(error)}"
            ) from error


def require_same_classes(model: LabelSpace, data: LabelSpace) -> None:
    """Require that a model and a data set have the same classes, in the same order.

    Args:
        model: The model's classes.
        data: The data set's classes.
    Raises:
        DataError: Names or ids differ.
    """
    if (model.names, model.ids) != (data.names, data.ids):
        raise DataError(
            f"the model's classes are {_list_classes(model)}; the data's are {_list_classes(data)}",
            "Give the data the model's classes, in the same order (data.classes).",
        )


def _list_classes(space: LabelSpace) -> str:
    return ", ".join(f"{number} {name}" for number, name in zip(space.ids, space.names, strict=True))
