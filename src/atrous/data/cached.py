"""Decoded images of a training, kept in memory while it reads them again and again."""

from __future__ import annotations

from atrous.core.records import Sample
from atrous.data.contracts import SegmentationDataset
from atrous.data.samples import read_sample


class SampleCache:
    """Samples of a data set, each read once as long as they fit into a budget.

    Nothing is ever dropped: all samples of a pass are read equally often, so the first ones are as good as others.

    Args:
        dataset: What is read.
        budget_bytes: Memory that images and labels may take; 0 keeps nothing.
    """

    def __init__(self, dataset: SegmentationDataset, budget_bytes: int) -> None:
        self.dataset = dataset
        self._free_bytes = budget_bytes
        self._samples: dict[int, Sample] = {}

    def read(self, index: int) -> Sample:
        """Return a sample as `read_sample` does; its arrays must not be changed."""
        sample = self._samples.get(index)
        if sample is None:
            sample = read_sample(self.dataset, index)
            num_bytes = sample.image.nbytes + sample.labels.nbytes
            if num_bytes <= self._free_bytes:
                self._free_bytes -= num_bytes
                self._samples[index] = sample
        return sample
