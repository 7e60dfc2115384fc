"""Which options of DenseCRF suit a model: each setting of a small grid, scored on the same probabilities."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from atrous.core.records import Progress, ProgressCallback
from atrous.crf.dense import DenseCRF, refine, require_crf_memory
from atrous.data.contracts import SegmentationDataset
from atrous.data.samples import read_as, read_sample
from atrous.inference.labelling.labeller import Labeller
from atrous.metrics.confusion import ConfusionMatrix, compute_miou
from atrous.scoring.count import require_same_classes

GRID: dict[str, tuple[float, ...]] = {
    "bilateral_weight": (3.0, 6.0),
    "bilateral_xy_px": (30.0, 67.0),
    "bilateral_rgb": (3.0, 6.0, 12.0),
}
"""Tried in every combination; the other options keep their defaults."""
MOST_IMAGES = 20


@dataclass(frozen=True)
class CrfTrial:
    """A setting and its score.

    Args:
        options: Of `DenseCRF`, by name; None stands for no field at all.
        miou: On the images that were searched, in [0, 1].
    """

    options: dict[str, float] | None
    miou: float


def search_crf(
    labeller: Labeller, dataset: SegmentationDataset, *, progress: ProgressCallback | None = None
) -> tuple[CrfTrial, ...]:
    """Score DenseCRF under every setting of the grid; the network sees each image once.

    Args:
        labeller: What labels, without DenseCRF.
        dataset: Images with masks; at most `MOST_IMAGES` of them are taken, evenly spread.
        progress: Receives the progress.
    Returns: A row a setting, and one without a field, best first.
    Raises:
        UsageError: The model is an exported file that gives labels alone.
        DataError: The classes of model and data differ, or a file cannot be read.
        MachineError: The memory does not suffice.
    """
    labeller.require_confidence(crf_search=True)
    require_same_classes(labeller.label_space, dataset.label_space)
    dataset = read_as(dataset, labeller.form)
    settings: list[dict[str, float] | None] = [None]
    settings += [dict(zip(GRID, values, strict=True)) for values in itertools.product(*GRID.values())]
    fields = [None if options is None else _build(options, labeller) for options in settings]
    matrices = [ConfusionMatrix(labeller.label_space.num_classes) for _ in settings]
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(MOST_IMAGES, len(dataset))).round().astype(int))
    for done, index in enumerate(chosen.tolist(), start=1):
        sample = read_sample(dataset, index)
        height, width = sample.labels.shape
        require_crf_memory(height, width, labeller.label_space.num_classes, labeller.backend.device)
        pixels = labeller.show(sample.image)
        found = list(labeller.iter_labels(sample.image))
        probs = torch.cat([each.band.compute_probs() for each in found if each.band is not None], dim=1)  # (K, H, W)
        plain = np.concatenate([each.indices for each in found])  # not from `probs`, whose rounding makes ties
        for field, matrix in zip(fields, matrices, strict=True):
            refined = plain if field is None else refine(field, probs, pixels).argmax(dim=0).cpu().numpy()
            matrix.update(sample.labels, refined.astype(np.uint16))
        if progress is not None:
            progress(Progress("searching", done, len(chosen), ""))
    trials = [
        CrfTrial(options, compute_miou(matrix.counts) or 0.0)
        for options, matrix in zip(settings, matrices, strict=True)
    ]
    return tuple(sorted(trials, key=lambda trial: -trial.miou))


def _build(options: dict[str, Any], labeller: Labeller) -> DenseCRF:
    return DenseCRF(**options).to(labeller.backend.device)
