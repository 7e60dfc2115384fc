"""One score per class and cell, directly from the features: the control for every other head."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from atrous.core.errors import ConfigError
from atrous.networks.contracts import WHOLE, Extent, FeatureShapes, Head
from atrous.networks.layers.conv import ConvNormAct


class FCNHead(Head):
    """A 1x1 convolution to class logits; with `hidden`, a 3x3 convolution before it, as in auxiliary heads.

    Args:
        features: Channels and strides of the backbone's levels.
        num_classes: Scored classes, the ignore index not counted.
        level: Index of the level to read; -1 is the deepest.
        hidden: Filters of a 3x3 convolution with norm and ReLU before the scores; 0 for none.
        dropout: Share of hidden values dropped in training, in [0, 1).
    Shapes:
        in levels of (B, C, h, w); out (B, K, h, w) logits.
    Raises:
        ConfigError: An option is out of range.
    Source: Long et al. 2015 (arXiv 1411.4038).
    """

    def __init__(
        self, features: FeatureShapes, num_classes: int, *, level: int = -1, hidden: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        num_levels = len(features.levels)
        if not -num_levels <= level < num_levels or hidden < 0 or not 0 <= dropout < 1:
            raise ConfigError(
                f"model.head: level {level}, hidden {hidden}, dropout {dropout} is out of range",
                f"level in {-num_levels}..{num_levels - 1}, hidden >= 0, dropout in [0, 1).",
            )
        channels = features.levels[level].channels
        self.level = level
        self.hidden = ConvNormAct(channels, hidden, 3) if hidden else nn.Identity()
        self.dropout = nn.Dropout2d(dropout) if dropout else nn.Identity()
        self.classifier = nn.Conv2d(hidden or channels, num_classes, 1)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)  # type: ignore[arg-type]

    def forward(self, features: Sequence[Tensor], extent: Extent = WHOLE) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.classifier(self.dropout(self.hidden(features[self.level])))
        return logits
