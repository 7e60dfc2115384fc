"""Reading a sample, checked: what a data set returns is of the form that the contract promises."""

from __future__ import annotations

import numpy as np

from atrous.core.errors import DataError, UsageError
from atrous.core.findings import describe_count
from atrous.core.labels import IGNORE_INDEX
from atrous.core.records import Sample
from atrous.data.contracts import SegmentationDataset


def is_thread_safe(dataset: SegmentationDataset) -> bool:
    """Whether a data set says that it may be called from several threads; one that says nothing may not."""
    return bool(getattr(dataset, "thread_safe", False))


def read_sample(dataset: SegmentationDataset, index: int) -> Sample:
    """Return a sample of a data set after checking types, sizes and the range of its labels.

    The check costs one pass over the labels. Without it a label out of range would stop a GPU with an assertion that
    names no sample, and on a CPU might be counted as another class.

    Args:
        dataset: What to read.
        index: Number of the sample, from 0.
    Returns:
        The sample; labels of other integer types are converted to uint16.
    Raises:
        UsageError: The data set returns another type, shape or dtype than the contract says.
        DataError: A label is neither a class index nor `IGNORE_INDEX`, the sizes of image and labels differ, or a file
            cannot be read.
    """
    sample = dataset.get(index)
    missing = [name for name in ("key", "image", "labels") if not hasattr(sample, name)]
    if missing:
        raise UsageError(
            f"{dataset.name}: sample {index} is of type {type(sample).__name__}, without {', '.join(missing)}",
            "Return an atrous.core.records.Sample(key, image, labels).",
        )
    where = f"{dataset.name}: sample {index} ({sample.key!r})"
    image, labels = sample.image, sample.labels
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UsageError(f"{where}: the image is {_describe(image)}", "Return an array (H, W, 3) of uint8, RGB.")
    _require_integers(labels, f"{where}: the labels are", "class indices")
    if image.shape[:2] != labels.shape:
        raise DataError(
            f"{where}: the image is {image.shape[0]}x{image.shape[1]} (height x width), "
            f"the labels are {labels.shape[0]}x{labels.shape[1]}",
            "Return both at the same size.",
        )
    num_classes = dataset.label_space.num_classes
    if labels.dtype == np.uint16:
        is_valid = (labels + np.uint16(1)).max(initial=0) <= num_classes  # IGNORE_INDEX wraps around to 0
    else:
        is_valid = not labels.size or bool(((labels >= 0) & (labels < num_classes) | (labels == IGNORE_INDEX)).all())
    if not is_valid:
        raise _describe_range(labels, num_classes, where)
    return sample if labels.dtype == np.uint16 else Sample(sample.key, image, labels.astype(np.uint16))


def require_mask(dataset: SegmentationDataset, index: int) -> np.ndarray:
    """Return the raw ids of a sample, (H, W) uint8 or uint16, after checking their form.

    Args:
        dataset: What to read.
        index: Number of the sample, from 0.
    Raises:
        UsageError: The data set returns another type, shape or dtype than the contract says.
        DataError: An id is negative or above 65535, or a file cannot be read.
    """
    mask = dataset.mask(index)
    where = f"{dataset.name}: sample {index} ({dataset.key(index)!r})"
    _require_integers(mask, f"{where}: the mask is", "ids")
    if mask.size and (mask.min() < 0 or mask.max() > 65535):
        raise DataError(
            f"{where}: the mask holds ids from {mask.min()} to {mask.max()}", "Ids are from 0 to 65535: map the others."
        )
    return mask if mask.dtype in (np.uint8, np.uint16) else mask.astype(np.uint16)


def _require_integers(values: object, start: str, what: str) -> None:
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "iu":
        raise UsageError(f"{start} {_describe(values)}", f"Return an array (H, W) of {what}, uint16.")


def _describe(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"an array {value.shape} of {value.dtype}"
    return f"of type {type(value).__name__}"


def _describe_range(labels: np.ndarray, num_classes: int, where: str) -> DataError:
    values, counts = np.unique(labels, return_counts=True)
    bad = [
        f"{value} ({describe_count(count, 'pixel')})"
        for value, count in zip(values.tolist(), counts.tolist(), strict=True)
        if not 0 <= value < num_classes and value != IGNORE_INDEX
    ]
    return DataError(
        f"{where}: the labels hold {', '.join(bad[:5])}{' and others' if len(bad) > 5 else ''}",
        f"Labels are class indices from 0 to {num_classes - 1}; ignored pixels are {IGNORE_INDEX} "
        "(atrous.core.labels.IGNORE_INDEX).",
    )
