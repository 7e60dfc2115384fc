"""Crops that are centred on rare classes: which of the samples, in which image, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atrous.core.seeds import rare_generator
from atrous.data.statistics import MaskStatistics, compute_class_weights


@dataclass(frozen=True)
class RareDraw:
    """What was drawn for a sample whose crop is centred on a class.

    Args:
        index: Number of the image.
        class_index: The class.
        fraction: Which of its pixels there, in [0, 1).
    """

    index: int
    class_index: int
    fraction: float

    def find_centre(self, labels: np.ndarray) -> tuple[int, int] | None:
        """Return the row and the column of the drawn pixel; None if the class has none.

        Args:
            labels: Class indices of the image, (H, W).
        """
        pixels = np.flatnonzero(labels == self.class_index)
        if not pixels.size:
            return None
        row, column = divmod(int(pixels[int(self.fraction * pixels.size)]), labels.shape[1])
        return row, column


@dataclass(frozen=True)
class RareCrops:
    """The rule by which a share of the crops is centred on a pixel of a drawn class.

    A class is drawn with a probability proportional to 1 / sqrt(its share of the pixels), capped as class weights are;
    then one of the images that hold it, and one of its pixels there. All of that is a function of the seed and the
    position in the stream.

    Args:
        share: Share of the crops, from 0 to 1.
        probabilities: Probability of each class, (K,), 0 where no image holds it.
        presence: Whether each image holds each class, (N, K) bool.
    """

    share: float
    probabilities: np.ndarray
    presence: np.ndarray

    def draw(self, seed: int, place: int) -> RareDraw | None:
        """Return what is drawn for a sample; None if its crop is not centred on a class.

        Args:
            seed: Seed of the run.
            place: Position in the stream, from 0.
        """
        generator = rare_generator(seed, place)
        if generator.random() >= self.share:
            return None
        class_index = int(generator.choice(len(self.probabilities), p=self.probabilities))
        images = np.flatnonzero(self.presence[:, class_index])
        return RareDraw(int(generator.choice(images)), class_index, float(generator.random()))

    def describe(self, names: Sequence[str]) -> str:
        """Return the rule as text, with the classes that are drawn most often.

        Args:
            names: Class names, (K,).
        """
        order = np.argsort(-self.probabilities, kind="stable")[:5]
        drawn = ", ".join(f"{names[index]} {self.probabilities[index]:.0%}" for index in order)
        return f"{self.share:.0%} of the crops are centred on a pixel of a drawn class, most often {drawn}"


def plan_rare_crops(share: float, statistics: MaskStatistics) -> RareCrops | None:
    """Return the rule for some training data; None if no crop is to be centred, or no class has a pixel.

    Args:
        share: Share of the crops, from 0 to 1.
        statistics: What the training masks hold.
    """
    is_there = statistics.images > 0
    if not share or not is_there.any():
        return None
    weights = np.where(is_there, compute_class_weights(statistics.pixels), 0.0)
    return RareCrops(share, weights / weights.sum(), statistics.presence)


def describe_seen(seen: np.ndarray, pixels: np.ndarray, names: Sequence[str]) -> str:
    """Describe how the classes occurred in the crops of a training, the rarest first.

    Args:
        seen: Pixels of each class in the crops, (K,).
        pixels: Pixels of each class in the training masks, (K,).
        names: Class names, (K,).
    """
    order = [index for index in np.argsort(pixels, kind="stable").tolist() if pixels[index]]
    shares, before = seen / max(seen.sum(), 1), pixels / max(pixels.sum(), 1)
    return "share of the labelled pixels in the crops: " + ", ".join(
        f"{names[index]} {shares[index]:.2%} ({before[index]:.2%} in the masks)" for index in order
    )
