"""From a predictor and a data set to scores: every picture once, at its mask's own size, into one confusion matrix."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from atrous.core.errors import DataError
from atrous.core.labels import LabelSpace
from atrous.core.records import ClassScore, PictureScore, Progress, Protocol, Sample, Scores
from atrous.data.contracts import SegmentationDataset
from atrous.inference.predictor import Predictor
from atrous.inference.prefetch import iter_ahead
from atrous.metrics.confusion import (
    ConfusionMatrix,
    compute_baseline,
    compute_iou,
    compute_miou,
    compute_pixel_accuracy,
    compute_precision,
    compute_recall,
    find_never_predicted,
)


def score(
    predictor: Predictor, dataset: SegmentationDataset, *, progress: Callable[[Progress], None] | None = None
) -> Scores:
    """Label every picture of a data set and compare with its mask.

    The labels are those that a prediction of the same picture would have. Of a picture only a band of rows is held as
    probabilities, and of the data set only its counts.

    Args:
        predictor: What labels, and how.
        dataset: Pictures with masks, whose classes are the predictor's.
        progress: Told of each picture, with the mIoU so far.
    Raises:
        DataError: The data set is empty, its classes are others, or a file cannot be read, which is named.
    """
    _require_same_classes(predictor.label_space, dataset.label_space)
    if len(dataset) == 0:
        raise DataError(f"{dataset.name} has no pictures to score")
    total = ConfusionMatrix(predictor.label_space.num_classes)
    before_crf = ConfusionMatrix(predictor.label_space.num_classes) if predictor.crf else None
    pictures: list[PictureScore] = []
    windows: list[int] = []
    for index, reading in iter_ahead(dataset.get, range(len(dataset))):
        try:
            sample = reading.result()
        except OSError as error:
            raise DataError(f"cannot read {dataset.picture_path(index) or dataset.key(index)}: {error}") from error
        own = _count_picture(predictor, sample, before_crf)
        total.merge(own)
        height, width = sample.labels.shape
        pictures.append(PictureScore(sample.key, compute_miou(own.counts), height, width))
        window = predictor.find_window(height, width)
        if window is not None and predictor.protocol.window is None:
            windows.append(window)
        if progress is not None:
            so_far = compute_miou(total.counts)
            note = "" if so_far is None else f"mIoU {so_far:.3f}"
            progress(Progress("scoring", len(pictures), len(dataset), note))
    notes = _describe_windows(windows, len(dataset))
    scores = build_scores(
        total.counts, predictor.label_space, predictor.protocol, pictures, data=dataset.name, notes=notes
    )
    return scores if before_crf is None else replace(scores, miou_before_crf=compute_miou(before_crf.counts))


def _count_picture(predictor: Predictor, sample: Sample, before_crf: ConfusionMatrix | None) -> ConfusionMatrix:
    """Label one picture band by band and count its pixels; add to `before_crf` what they are without DenseCRF."""
    if sample.picture.shape[:2] != sample.labels.shape:
        raise DataError(
            f"{sample.key}: picture {sample.picture.shape[:2]} and mask {sample.labels.shape} differ in size"
        )
    own = ConfusionMatrix(predictor.label_space.num_classes)
    for band in predictor.iter_labels(sample.picture):
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


def _list_classes(space: LabelSpace) -> str:
    return ", ".join(f"{number} {name}" for number, name in zip(space.ids, space.names, strict=True))


def _describe_windows(windows: list[int], num_pictures: int) -> tuple[str, ...]:
    if not windows:
        return ()
    sides = " and ".join(str(side) for side in sorted(set(windows)))
    of_all = f"{len(windows)} of {num_pictures} pictures"
    return (f"{of_all} did not fit in memory as a whole and were labelled in windows of {sides} pixels",)


def build_scores(
    counts: np.ndarray,
    label_space: LabelSpace,
    protocol: Protocol,
    pictures: list[PictureScore],
    *,
    data: str = "",
    notes: tuple[str, ...] = (),
) -> Scores:
    """Work out every figure from the counts of a data set.

    Args:
        counts: (K, K) pixels, rows truth, columns prediction.
        label_space: What the classes are.
        protocol: How the labels were made.
        pictures: Each picture's own score.
        data: Name of the data and split.
        notes: What else a reader must know.
    """
    iou, recall, precision = compute_iou(counts), compute_recall(counts), compute_precision(counts)
    baseline_class, baseline_miou = compute_baseline(counts)
    rows = tuple(
        ClassScore(
            name=name,
            id=label_space.ids[number],
            iou=_number_or_none(iou[number]),
            recall=_number_or_none(recall[number]),
            precision=_number_or_none(precision[number]),
            pixels=int(counts[number].sum()),
            predicted_pixels=int(counts[:, number].sum()),
        )
        for number, name in enumerate(label_space.names)
    )
    return Scores(
        miou=compute_miou(counts),
        pixel_accuracy=compute_pixel_accuracy(counts),
        classes=rows,
        confusion=tuple(tuple(row) for row in counts.tolist()),
        pictures=tuple(pictures),
        protocol=protocol,
        baseline_class=label_space.names[baseline_class],
        baseline_miou=baseline_miou,
        never_predicted=tuple(label_space.names[number] for number in find_never_predicted(counts)),
        data=data,
        notes=notes,
    )


def _number_or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def select_examples(scores: Scores, count: int = 4) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return keys of the best and of the worst pictures, best and worst first, no picture in both.

    Args:
        scores: Scores of a data set; pictures without a valid pixel are passed over.
        count: Most pictures of each kind; of fewer than twice as many, the better half is best.
    """
    rated = sorted((row.miou, row.key) for row in scores.pictures if row.miou is not None)
    keys = [key for _, key in rated]
    num_best = min(count, (len(keys) + 1) // 2)
    num_worst = min(count, len(keys) - num_best)
    return tuple(keys[::-1][:num_best]), tuple(keys[:num_worst])
