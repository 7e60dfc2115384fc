"""Features concatenated with averages over grids of the image: the head of PSPNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from atrous.core.errors import ConfigError
from atrous.networks.contracts import WHOLE, Extent, FeatureShapes, Head, require_head_options
from atrous.networks.layers.conv import ConvNormAct
from atrous.networks.layers.pooling import PyramidPooling


class PSPNetHead(Head):
    """The features and their averages over grids of several sizes, a 3x3 convolution, then class scores.

    Args:
        features: Channels and stride of each backbone level; the deepest one is read.
        num_classes: Scored classes, the ignore index not counted.
        bins: Cells along each side of each grid, each >= 1.
        channels: Filters of the 3x3 convolution.
        dropout: Share of its output dropped in training, in [0, 1).
    Shapes:
        in levels of (B, C, h, w) float features; out (B, K, h, w) logits, one vector per cell.
    Raises:
        ConfigError: `bins` is empty or holds a number below 1; `channels` or `dropout` is out of range.
    Source: Zhao et al. 2017 (arXiv 1612.01105), section 3.2.
    """

    def __init__(
        self,
        features: FeatureShapes,
        num_classes: int,
        *,
        bins: tuple[int, ...] = (1, 2, 3, 6),
        channels: int = 512,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if not bins or min(bins) < 1:
            raise ConfigError(f"model.head.bins: {list(bins)} is not a list of grids", "Each is a number from 1 up.")
        require_head_options(channels=channels, dropout=dropout)
        deepest = features.deepest.channels
        each = max(deepest // len(bins), 1)
        self.pooling = PyramidPooling(deepest, each, bins=tuple(bins))
        self.projection = ConvNormAct(deepest + len(bins) * each, channels, 3)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)  # type: ignore[arg-type]

    def forward(self, features: Sequence[Tensor], extent: Extent = WHOLE) -> Tensor:
        """Return the logits."""
        context = torch.cat([features[-1], self.pooling(features[-1], extent)], dim=1)
        logits: Tensor = self.classifier(self.dropout(self.projection(context)))
        return logits
