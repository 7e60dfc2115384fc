"""Reading a sample, checked: what a data set returns is of the form that the contract promises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from atrous.core.errors import AtrousError, DataError, UsageError
from atrous.core.findings import shorten_list
from atrous.core.inputs import PHOTO, ImageForm
from atrous.core.labels import IGNORE_INDEX, LabelSpace
from atrous.core.records import Sample
from atrous.core.system_errors import describe_shortage
from atrous.core.words import describe_count
from atrous.data.contracts import SegmentationDataset
from atrous.images.windows import Window

_ADAPT = "atrous.from_torch adapts a data set of PyTorch or Hugging Face."


def is_thread_safe(dataset: SegmentationDataset) -> bool:
    """Whether a data set says that it may be called from several threads; one that says nothing may not."""
    return bool(getattr(dataset, "thread_safe", False))


def find_form(dataset: SegmentationDataset) -> ImageForm:
    """Return the form of the images of a data set; one that says nothing has photos."""
    form: ImageForm = getattr(dataset, "form", PHOTO)
    return form


def find_window(dataset: SegmentationDataset, index: int) -> Window | None:
    """Return the part of its files that a sample is; None for whole images, as those of data sets that say nothing.

    Args:
        dataset: The data set.
        index: Number of the sample, from 0.
    """
    window: Window | None = _ask(dataset, "window", index)
    return window


def find_group_name(dataset: SegmentationDataset, index: int) -> str | None:
    """Return the clip or scene that a sample is of; None for a sample that is alone, or where the data say nothing.

    Args:
        dataset: The data set.
        index: Number of the sample, from 0.
    """
    name: str | None = _ask(dataset, "group", index)
    return name


def _ask(dataset: SegmentationDataset, method: str, index: int) -> Any:
    """Return what an optional method of a data set says of a sample; None if the data set does not have the method."""
    find = getattr(dataset, method, None)
    return None if find is None else find(index)


def read_part(dataset: SegmentationDataset, index: int, rows: slice, columns: slice) -> Sample:
    """Return a part of a sample of which `find_window` says that it is a part of its files; nothing else is read.

    Args:
        dataset: What to read.
        index: Number of the sample, from 0.
        rows: Rows of the sample, with explicit start and stop.
        columns: Its columns likewise.
    Raises:
        DataError: A file cannot be read, or the mask holds an id outside the classes.
    """
    sample: Sample = dataset.get_part(index, rows, columns)  # type: ignore[attr-defined]  # where there are windows
    return sample


def read_as(dataset: SegmentationDataset, form: ImageForm) -> SegmentationDataset:
    """Return a data set whose images have another form, that of the network that sees them; pages stay.

    Args:
        dataset: The data set.
        form: The form.
    Raises:
        DataError: The data set has images of its own form, which are not read from files.
    """
    own = find_form(dataset)
    wanted = replace(form, page=own.page)
    if own == wanted:
        return dataset
    change = getattr(dataset, "read_as", None)
    if change is None:
        raise DataError(
            f"{dataset.name}: has images of {own.describe()}, and the model takes {form.describe()}",
            "Use data like those that the model was trained on, or train a model on these.",
        )
    changed: SegmentationDataset = change(wanted)
    return changed


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
        UsageError: The data set returns another type, shape or dtype than the contract says, a sample with another key
            than its own, or raises an error of its own.
        DataError: A label is neither a class index nor `IGNORE_INDEX`, the sizes of image and labels differ, or a file
            cannot be read.
    """
    with _naming_the_sample(dataset, index):
        sample, key = dataset.get(index), dataset.key(index)
    missing = [name for name in ("key", "image", "labels") if not hasattr(sample, name)]
    if missing:
        raise UsageError(
            f"{dataset.name}: sample {index} is of type {type(sample).__name__}, without {', '.join(missing)}",
            f"Return an atrous.core.records.Sample(key, image, labels). {_ADAPT}",
        )
    where = f"{dataset.name}: sample {index} ({sample.key!r})"
    if sample.key != key:
        raise UsageError(f"{where}: its key from the method key is {key!r}", "Return the same key from both.")
    image, labels = sample.image, sample.labels
    form = find_form(dataset)
    is_array = isinstance(image, np.ndarray) and image.ndim == 3
    if not is_array or image.dtype != form.dtype or image.shape[2] != form.channels:
        kind = f"an array (H, W, {form.channels}) of {form.dtype}{', RGB' if form.is_photo else ''}"
        raise UsageError(f"{where}: the image is {_describe(image)}", f"Return {kind}. {_ADAPT}")
    _require_integers(labels, f"{where}: the labels are", "class indices")
    if image.shape[:2] != labels.shape:
        raise DataError(
            f"{where}: the image is {image.shape[0]}x{image.shape[1]} (height x width), "
            f"the labels are {labels.shape[0]}x{labels.shape[1]}",
            "Return both at the same size.",
        )
    num_classes = dataset.label_space.num_classes
    if labels.dtype == np.uint16:
        is_valid = _are_indices(labels, num_classes)
    else:
        is_valid = not labels.size or bool(((labels >= 0) & (labels < num_classes) | (labels == IGNORE_INDEX)).all())
    if not is_valid:
        raise _describe_range(labels, num_classes, where)
    return sample if labels.dtype == np.uint16 else Sample(sample.key, image, labels.astype(np.uint16))


def _are_indices(labels: np.ndarray, num_classes: int) -> bool:
    """Whether all labels, uint16, are class indices or `IGNORE_INDEX`."""
    if num_classes > np.iinfo(np.int16).max:
        return bool((labels + np.uint16(1)).max(initial=0) <= num_classes)  # IGNORE_INDEX wraps around to 0
    signed = labels.view(np.int16)  # IGNORE_INDEX is -1; nothing is copied, which takes longer than the comparison
    return bool(signed.max(initial=0) < num_classes and signed.min(initial=0) >= -1)


def require_mask(dataset: SegmentationDataset, index: int) -> np.ndarray:
    """Return the raw ids of a sample, (H, W) integers, after checking their form.

    Args:
        dataset: What to read.
        index: Number of the sample, from 0.
    Raises:
        UsageError: The data set returns another type, shape or dtype than the contract says.
        DataError: A file cannot be read.
    """
    with _naming_the_sample(dataset, index):
        mask = dataset.mask(index)
    where = f"{dataset.name}: sample {index} ({dataset.key(index)!r})"
    _require_integers(mask, f"{where}: the mask is", "ids")
    return mask


def require_dataset(dataset: SegmentationDataset) -> bool:
    """Check the form of a Python data set, and some of its samples, before anything is done with it.

    Returns:
        Whether those samples were the same when they were read again.
    Raises:
        UsageError: A member of `SegmentationDataset` is missing or of another type, or see `read_sample`.
        DataError: The data set is empty, two samples have one key, or see `read_sample`.
    """
    wanted = ["__len__", *(name for name in vars(SegmentationDataset) if not name.startswith("_"))]
    missing = [name for name in wanted if not hasattr(dataset, name)]
    if missing:
        raise UsageError(
            f"data: {type(dataset).__name__} has no {', '.join(missing)}",
            f"atrous.data.contracts.SegmentationDataset describes each of them. {_ADAPT}",
        )
    if not isinstance(dataset.label_space, LabelSpace):
        raise UsageError(
            f"{dataset.name}: label_space is of type {type(dataset.label_space).__name__}",
            "Give atrous.core.labels.LabelSpace(names).",
        )
    try:
        length = len(dataset)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{dataset.name}: its length is no whole number: {error}") from error
    if length == 0:
        raise DataError(f"{dataset.name}: no images", "Give at least one to train on and one to score.")
    keys = []
    for index in range(length):
        with _naming_the_sample(dataset, index):
            keys.append(dataset.key(index))
        if not isinstance(keys[-1], str):
            raise UsageError(f"{dataset.name}: the key of sample {index} is {keys[-1]!r}", "Return text.")
    doubled = [key for key, count in Counter(keys).items() if count > 1]
    if doubled:
        raise DataError(
            f"{dataset.name}: {describe_count(len(doubled), 'key')} of several samples: {shorten_list(doubled)}",
            "Give each sample a key of its own.",
        )
    tried = sorted({0, length // 3, 2 * length // 3, length - 1})
    first, second = ([read_sample(dataset, index) for index in tried] for _ in range(2))
    return all(map(_are_equal, first, second))


def _are_equal(one: Sample, other: Sample) -> bool:
    return np.array_equal(one.image, other.image) and np.array_equal(one.labels, other.labels)


@contextmanager
def _naming_the_sample(dataset: SegmentationDataset, index: int) -> Iterator[None]:
    """Name the sample in an error of the data set itself."""
    where = f"{dataset.name}: sample {index} of {len(dataset)}"
    try:
        yield
    except AtrousError:
        raise
    except Exception as error:  # the data set may be the user's own code
        if describe_shortage(error) is not None:  # the machine's, and not the sample's
            raise
        if isinstance(error, OSError):
            raise DataError(f"{where} cannot be read: {error}", "Check the file, or leave out the sample.") from error
        raise UsageError(f"{where}: {type(error).__name__}: {error}", "The data set raised this error.") from error


def _require_integers(values: object, start: str, what: str) -> None:
    if not isinstance(values, np.ndarray) or values.ndim != 2 or values.dtype.kind not in "iu":
        raise UsageError(f"{start} {_describe(values)}", f"Return an array (H, W) of {what}, uint16. {_ADAPT}")


def _describe(value: object) -> str:
    if isinstance(value, np.ndarray):
        values = f" from {value.min():g} to {value.max():g}" if value.size and value.dtype.kind == "f" else ""
        return f"an array {value.shape} of {value.dtype}{values}"
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
