"""How often each class occurs in a data set, and the class weights made of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from atrous.data.facts import DatasetFacts

WEIGHT_CAP = 10.0
"""Largest class weight / smallest."""


@dataclass(frozen=True)
class MaskStatistics:
    """What all masks of a data set hold.

    Args:
        pixels: Pixels of each class, (K,) int64.
        presence: Whether each image holds each class, (N, K) bool.
        ignored: Pixels by ignored id.
        num_masks: Number of masks.
        longest_side_px: Longest side of all masks.
        contents_sha256: Hash of the content of all files of the run and of its masks without a file, of both splits.
        block_pixels: Pixels of each sample that is a block of a raster, and 0 for whole images, (N,) int64; None if
            there are no blocks.
    """

    pixels: np.ndarray
    presence: np.ndarray
    ignored: dict[int, int]
    num_masks: int
    longest_side_px: int
    contents_sha256: str = ""
    block_pixels: np.ndarray | None = None

    @property
    def images(self) -> np.ndarray:
        """Images that hold each class, (K,) int64."""
        counts: np.ndarray = self.presence.sum(axis=0)
        return counts

    @property
    def ignored_pixels(self) -> int:
        """Pixels that are neither trained on nor scored."""
        return sum(self.ignored.values())

    @property
    def ignored_share(self) -> float:
        """Those as a share of all pixels."""
        return self.ignored_pixels / max(int(self.pixels.sum()) + self.ignored_pixels, 1)


def compute_statistics(facts: DatasetFacts) -> MaskStatistics:
    """Count classes in the facts of a data set whose masks can all be read."""
    space, totals = facts.label_space, facts.sum_pixels()
    masks = [item.mask for item in facts.items if item.mask]
    presence = np.zeros((len(masks), space.num_classes), dtype=bool)
    for row, mask in enumerate(masks):
        presence[row] = [number in mask.counts for number in space.ids]
    return MaskStatistics(
        pixels=np.array([totals.get(number, 0) for number in space.ids], dtype=np.int64),
        presence=presence,
        ignored={number: totals[number] for number in space.ignored_ids if number in totals},
        num_masks=len(facts.items),
        longest_side_px=max((side for mask in masks for side in mask.size), default=0),
        block_pixels=_count_block_pixels(facts),
    )


def _count_block_pixels(facts: DatasetFacts) -> np.ndarray | None:
    sizes = [item.window.size if item.window else (0, 0) for item in facts.items]
    return np.prod(sizes, axis=1) if any(height for height, _ in sizes) else None


def compute_class_weights(pixels: np.ndarray) -> tuple[float, ...]:
    """Weigh classes by 1 / sqrt(share of pixels), at most `WEIGHT_CAP` times the smallest weight, with mean 1.

    Args:
        pixels: Pixels of each class, (K,), not all 0.
    """
    raw = 1.0 / np.sqrt(np.maximum(pixels, 1e-12) / pixels.sum())
    weights = np.minimum(raw, raw.min() * WEIGHT_CAP)
    return tuple((weights / weights.mean()).tolist())
