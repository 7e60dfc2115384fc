"""ASPP and class logits: the head of DeepLabv3."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from atrous.networks.contracts import WHOLE, Extent, FeatureShapes, Head, require_head_options
from atrous.networks.layers.aspp import ASPP
from atrous.networks.layers.conv import ConvNormAct
from atrous.networks.rates import require_rates


class DeepLabV3Head(Head):
    """Parallel convolutions at several rates, pooled context, then class scores.

    Rates are given for output stride 16 and scale with 16 / output_stride, so the head sees the same image at every
    stride.

    Args:
        features: Channels and stride of each backbone level; the deepest one is read.
        num_classes: Scored classes, the ignore index not counted.
        rates: Distance between taps in stride-16 cells, each >= 1.
        channels: Filters of each branch and of the projection.
        separable: Make the atrous branches depthwise separable, as DeepLabv3+ may.
        image_features: Whether there is an image-level branch.
        refinement: Whether a 3x3 convolution is between ASPP and the scores, as in torchvision's model.
        dropout: Share of projected values dropped in training, in [0, 1).
    Shapes:
        in levels of (B, C, h, w) float features; out (B, K, h, w) logits, one vector per cell.
    Raises:
        ConfigError: `rates` is empty or holds a number below 1; `channels` or `dropout` is out of range.
    Source: Chen et al. 2017 (arXiv 1706.05587), section 3.3.
    """

    def __init__(
        self,
        features: FeatureShapes,
        num_classes: int,
        *,
        rates: tuple[int, ...] = (6, 12, 18),
        channels: int = 256,
        separable: bool = False,
        image_features: bool = True,
        refinement: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        require_rates(rates)
        require_head_options(channels=channels, dropout=dropout)
        self.rates = tuple(rates)
        self.aspp = ASPP(
            features.deepest.channels, channels, rates=self.rates, separable=separable, image_features=image_features
        )
        self.refinement = ConvNormAct(channels, channels, 3) if refinement else nn.Identity()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)  # type: ignore[arg-type]

    def set_rates(self, rates: tuple[int, ...]) -> None:
        """Spread the taps of ASPP's branches."""
        self.aspp.set_rates(rates)

    def forward(self, features: Sequence[Tensor], extent: Extent = WHOLE) -> Tensor:
        """Return the logits."""
        projected = self.dropout(self.refinement(self.aspp(features[-1], extent)))
        logits: Tensor = self.classifier(projected)
        return logits
