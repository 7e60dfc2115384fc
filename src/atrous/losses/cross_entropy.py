"""Cross-entropy of every valid pixel."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from atrous.core.errors import ConfigError
from atrous.losses.banded import sum_cross_entropy
from atrous.losses.contracts import weigh_pixels
from atrous.networks.contracts import Geometry


@dataclass(frozen=True, kw_only=True)
class CrossEntropy:
    """The sum of the cross-entropy over valid pixels.

    Args:
        label_smoothing: Share of the target that is spread evenly over all classes, in [0, 1).
    Raises:
        ConfigError: A number outside its range.
    Source: label smoothing: Szegedy et al. 2015 (arXiv 1512.00567), section 7.
    """

    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ConfigError(
                f"training.loss_options.label_smoothing is {self.label_smoothing:g}", "Allowed: from 0 to below 1."
            )

    def __call__(
        self, logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, geometry: Geometry | None = None
    ) -> Tensor:
        """Return the sum; see `Loss`."""
        weights = weigh_pixels(labels, class_weights)
        return sum_cross_entropy(logits, labels, weights, geometry, label_smoothing=self.label_smoothing)
