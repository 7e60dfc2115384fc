"""From a labeller and a data set to scores: every image once, at its mask's own size, into one confusion matrix."""

from __future__ import annotations

import functools
from dataclasses import replace

from atrous.core.errors import DataError
from atrous.core.labels import LabelSpace
from atrous.core.records import ImageScore, Progress, ProgressCallback, Sample, Scores
from atrous.data.contracts import SegmentationDataset
from atrous.data.samples import is_thread_safe, read_sample
from atrous.inference.folders.prefetch import iter_ahead
from atrous.inference.labelling.labeller import Labeller
from atrous.metrics.confusion import (
    ConfusionMatrix,
    compute_miou,
)
from atrous.scoring.summarise import _list_classes, build_scores


def score(labeller: Labeller, dataset: SegmentationDataset, *, progress: ProgressCallback | None = None) -> Scores:
    """Label every image of a data set and compare with its mask.

    The labels are those that a prediction of the same image would have. Of an image only a band of rows is held as
    probabilities, and of the data set only its counts.

    Args:
        labeller: What labels, and how.
        dataset: Images with masks, whose classes are the labeller's.
        progress: Receives the progress.
    Raises:
        DataError: The data set is empty, its classes are others, or a file cannot be read, which is named.
    """
    _require_same_classes(labeller.label_space, dataset.label_space)
    if len(dataset) == 0:
        raise DataError(f"{dataset.name} has no images to score")
    total = ConfusionMatrix(labeller.label_space.num_classes)
    before_crf = ConfusionMatrix(labeller.label_space.num_classes) if labeller.crf else None
    images: list[ImageScore] = []
    windows: list[int] = []
    read = functools.partial(read_sample, dataset)
    for index, reading in iter_ahead(read, range(len(dataset)), ahead=int(is_thread_safe(dataset))):
        try:
            sample = reading.result()
        except OSError as error:
            raise DataError(f"cannot read {dataset.image_path(index) or dataset.key(index)}: {error}") from error
        own = _count_image(labeller, sample, before_crf)
        total.merge(own)
        height, width = sample.labels.shape
        images.append(ImageScore(sample.key, compute_miou(own.counts), height, width))
        window = labeller.find_window(height, width)
        if window is not None and labeller.protocol.window is None:
            windows.append(window)
        if progress is not None:
            so_far = compute_miou(total.counts)
            note = "" if so_far is None else f"mIoU {so_far:.3f}"
            progress(Progress("scoring", len(images), len(dataset), note))
    notes = _describe_windows(windows, len(dataset))
    scores = build_scores(total.counts, labeller.label_space, labeller.protocol, images, data=dataset.name, notes=notes)
    return scores if before_crf is None else replace(scores, miou_before_crf=compute_miou(before_crf.counts))


def _count_image(labeller: Labeller, sample: Sample, before_crf: ConfusionMatrix | None) -> ConfusionMatrix:
    """Label one image band by band and count its pixels; add to `before_crf` what they are without DenseCRF."""
    own = ConfusionMatrix(labeller.label_space.num_classes)
    for band in labeller.iter_labels(sample.image):
        truth = sample.labels[band.start_row : band.start_row + len(band.indices)]
        own.update(truth, band.indices)
        if before_crf is not None and band.indices_before_crf is not None:
            before_crf.update(truth, band.indices_before_crf)
    return own


def _require_same_classes(model: LabelSpace, data: LabelSpace) -> None:
    if (model.names, model.ids) != (data.names, data.ids):
        raise DataError(
            f"the model's classes are {_list_classes(model)}; the data's are {_list_classes(data)}",
            "Give the data the model's classes, in the same order (data.classes).",
        )


def _describe_windows(windows: list[int], num_images: int) -> tuple[str, ...]:
    if not windows:
        return ()
    sides = " and ".join(str(side) for side in sorted(set(windows)))
    of_all = f"{len(windows)} of {num_images} images"
    return (f"{of_all} did not fit in memory as a whole and were labelled in windows of {sides} pixels",)
