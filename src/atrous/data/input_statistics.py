"""Mean and standard deviation of each band of images that no published weights were made for."""

from __future__ import annotations

import numpy as np

from atrous.core.errors import DataError
from atrous.core.inputs import InputSpec
from atrous.core.labels import IGNORE_INDEX
from atrous.core.words import describe_count
from atrous.data.contracts import SegmentationDataset
from atrous.data.samples import find_form, read_sample

MOST_IMAGES = 100
"""Images that are measured, drawn at random from the training data."""
_SMALLEST_STD = 1e-8
"""Standard deviation below which a band is constant."""


def measure_input(dataset: SegmentationDataset, seed: int) -> InputSpec:
    """Measure mean and standard deviation of each band, over the pixels that are labelled.

    Args:
        dataset: The training data; at most `MOST_IMAGES` of them are read.
        seed: Seed of their choice.
    Returns:
        Statistics of the values after the lower end of the range is mapped to 0 and the upper one to 1. A band that is
        constant has the standard deviation 1.
    Raises:
        DataError: A file cannot be read, or there are no labelled pixels in the images that were drawn.
    """
    form = find_form(dataset)
    low, high = form.value_range
    count = min(len(dataset), MOST_IMAGES)
    chosen = np.sort(np.random.default_rng(seed).choice(len(dataset), count, replace=False))
    total, squares, pixels = np.zeros(form.channels), np.zeros(form.channels), 0
    for index in chosen.tolist():
        sample = read_sample(dataset, index)
        values = (sample.image[sample.labels != IGNORE_INDEX].astype(np.float64) - low) / (high - low)  # (n, C)
        total += values.sum(axis=0)
        squares += np.square(values).sum(axis=0)
        pixels += len(values)
    if not pixels:
        shown = describe_count(count, "image")
        raise DataError(f"{dataset.name}: no labelled pixel in {shown}", "Check the masks and data.ignore.")
    mean = total / pixels
    std = np.sqrt(np.maximum(squares / pixels - mean**2, 0.0))
    std[std < _SMALLEST_STD] = 1.0
    return InputSpec(tuple(mean.tolist()), tuple(std.tolist()), form)


def describe_input(spec: InputSpec) -> str:
    """Return the measured statistics as a line for the log.

    Args:
        spec: What `measure_input` found.
    """
    low, high = spec.form.value_range
    rows = zip(spec.stored_mean, spec.std, strict=True)
    shown = ", ".join(f"{mean:.4g} ({std * (high - low):.3g})" for mean, std in rows)
    return f"input: {spec.form.describe()}; mean (standard deviation) of each band in training images: {shown}"
