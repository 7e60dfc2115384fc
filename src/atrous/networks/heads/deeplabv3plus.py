"""ASPP and a decoder that restores block1's detail: the head of DeepLabv3+."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from atrous.networks.contracts import WHOLE, Extent, FeatureShapes, Head, require_head_options
from atrous.networks.layers.aspp import ASPP
from atrous.networks.layers.conv import AtrousConv, ConvNormAct
from atrous.networks.layers.resize import resize_map
from atrous.networks.rates import require_rates

DECODER_STRIDE = 4


class DeepLabV3PlusHead(Head):
    """ASPP, enlarged to stride 4 and joined with block1's features, then two 3x3 convolutions and class scores.

    Rates are given for output stride 16 and scale with 16 / output_stride.

    Args:
        features: Channels and stride of each backbone level; the deepest one and that at stride 4 are read.
        num_classes: Scored classes, the ignore index not counted.
        rates: Distance between taps in stride-16 cells, each >= 1.
        channels: Filters of each branch, of the projection and of the decoder.
        low_level_channels: Channels that block1's features are reduced to, so that they do not outweigh the rest.
        separable: Make the atrous branches and the decoder depthwise separable.
        image_features: Whether there is an image-level branch.
        dropout: Share of the decoder's values dropped in training, in [0, 1).
    Shapes:
        in levels of (B, C, h, w) float features; out (B, K, h4, w4) logits at stride 4.
    Raises:
        ConfigError: `rates` is empty or holds a number below 1; a number of channels or `dropout` is out of range; or
            the backbone has no level at stride 4.
    Source: Chen et al. 2018 (arXiv 1802.02611), section 3.1.
    """

    def __init__(
        self,
        features: FeatureShapes,
        num_classes: int,
        *,
        rates: tuple[int, ...] = (6, 12, 18),
        channels: int = 256,
        low_level_channels: int = 48,
        separable: bool = True,
        image_features: bool = True,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        require_rates(rates)
        require_head_options(channels=channels, low_level_channels=low_level_channels, dropout=dropout)
        self.rates = tuple(rates)
        self.low_level = features.find_level(DECODER_STRIDE)
        self.aspp = ASPP(
            features.deepest.channels, channels, rates=self.rates, separable=separable, image_features=image_features
        )
        self.reduction = ConvNormAct(features.levels[self.low_level].channels, low_level_channels)
        self.decoder = nn.Sequential(
            AtrousConv(channels + low_level_channels, channels, rate=1, separable=separable),
            AtrousConv(channels, channels, rate=1, separable=separable),
        )
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.classifier = nn.Conv2d(channels, num_classes, 1)
        nn.init.normal_(self.classifier.weight, std=0.01)
        nn.init.zeros_(self.classifier.bias)  # type: ignore[arg-type]

    def find_stride(self, output_stride: int) -> int:
        """Return the stride of the logits: the decoder's."""
        return min(output_stride, DECODER_STRIDE)

    def set_rates(self, rates: tuple[int, ...]) -> None:
        """Spread the taps of ASPP's branches; the decoder is unchanged."""
        self.aspp.set_rates(rates)

    def forward(self, features: Sequence[Tensor], extent: Extent = WHOLE) -> Tensor:
        """Return the logits."""
        detail = self.reduction(features[self.low_level])
        context = resize_map(
            self.aspp(features[-1], extent), (detail.shape[2], detail.shape[3]), aligned=extent.aligned
        )
        decoded = self.dropout(self.decoder(torch.cat([context, detail], dim=1)))
        logits: Tensor = self.classifier(decoded)
        return logits
