"""The scores of a labeller on all images of a data set."""

from __future__ import annotations

from typing import Any

from atrous.core.records import Scores
from atrous.data.contracts import SegmentationDataset
from atrous.inference.labelling.labeller import Labeller
from atrous.scoring.count import count
from atrous.scoring.summarise import summarise


def score(labeller: Labeller, dataset: SegmentationDataset, **options: Any) -> Scores:
    """Return the scores of `count` with its options."""
    return summarise(count(labeller, dataset, **options), labeller, data=dataset.name)
