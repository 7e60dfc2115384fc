"""Cross-entropy of the pixels that the network finds hard (online hard example mining)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from atrous.core.errors import ConfigError
from atrous.core.labels import IGNORE_INDEX
from atrous.losses.banded import compute_losses, sum_cross_entropy
from atrous.losses.contracts import weigh_pixels
from atrous.networks.contracts import Geometry


@dataclass(frozen=True, kw_only=True)
class OHEM:
    """The mean cross-entropy of the hard pixels, counted for all valid ones.

    Hard are the pixels whose true class has a probability below a threshold; where they are fewer than a share of the
    valid pixels, the hardest of that share. They are chosen, and averaged, among all pixels of one forward pass; where
    several passes make a step, each counts by its valid pixels.

    Args:
        threshold: Probability of the true class from which on a pixel is easy, in (0, 1].
        min_kept_fraction: Share of the valid pixels that is kept at least, in (0, 1].
    Raises:
        ConfigError: A number outside its range.
    Source: Shrivastava et al. 2016 (arXiv 1604.03540), with pixels for regions; the defaults are those of BiSeNet
        (Yu et al. 2018) and its successors.
    """

    threshold: float = 0.7
    min_kept_fraction: float = 0.0625

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0.0 < value <= 1.0:
                raise ConfigError(f"training.loss_options.{name} is {value:g}", "Allowed: above 0, at most 1.")

    def __call__(
        self, logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, geometry: Geometry | None = None
    ) -> Tensor:
        """Return the mean over the hard pixels times the weight of the valid ones; see `Loss`."""
        weights = weigh_pixels(labels, class_weights)
        valid = labels != IGNORE_INDEX
        if valid.any():
            losses = compute_losses(logits, labels, geometry)
            of_hard = weights * (valid & (losses >= self._find_least_hard(losses[valid])))
            weights = of_hard * (weights.sum() / of_hard.sum())
        return sum_cross_entropy(logits, labels, weights, geometry)

    def _find_least_hard(self, losses: Tensor) -> Tensor:
        """Return the smallest loss that is kept among those of the valid pixels, (N,)."""
        least = math.ceil(self.min_kept_fraction * losses.numel())
        hardest = losses.kthvalue(losses.numel() - least + 1).values
        return hardest.clamp(max=-math.log(self.threshold))
