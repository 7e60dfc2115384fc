"""One network with shared weights that sees the image at several sizes: the image pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from atrous.core.errors import ConfigError
from atrous.networks.contracts import WHOLE, Extent, FeatureShapes, Head
from atrous.networks.heads.deeplabv2 import DeepLabV2Head
from atrous.networks.heads.deeplabv3 import DeepLabV3Head
from atrous.networks.heads.fcn import FCNHead
from atrous.networks.layers.conv import ConvNormAct

HEADS: dict[str, type[Head]] = {"fcn": FCNHead, "deeplabv2": DeepLabV2Head, "deeplabv3": DeepLabV3Head}
ATTENTION_CHANNELS = 256


class ImagePyramidHead(Head):
    """A head that combines its logits at several sizes of the image.

    Args:
        features: Channels and stride of each backbone level; the deepest one is read.
        num_classes: Scored classes, the ignore index not counted.
        scales: Relative sizes of the image, each above 0.
        fusion: "max" or "mean" of the logits over scales, or "attention", their sum with learned weights for each
            cell and scale.
        head: The head at each scale: fcn, deeplabv2 or deeplabv3, each with its defaults.
    Shapes:
        in levels of (B, C, h, w) float features; out (B, K, h, w) logits, one vector per cell.
    Raises:
        ConfigError: `scales` is empty or holds a number that is not above 0.
    Source: Chen et al. 2016 (arXiv 1511.03339), section 3; fusion by maximum as in DeepLabv2.
    """

    def __init__(
        self,
        features: FeatureShapes,
        num_classes: int,
        *,
        scales: tuple[float, ...] = (0.5, 0.75, 1.0),
        fusion: Literal["max", "mean", "attention"] = "max",
        head: Literal["fcn", "deeplabv2", "deeplabv3"] = "fcn",
    ) -> None:
        super().__init__()
        if not scales or min(scales) <= 0:
            raise ConfigError(f"model.head.scales: {list(scales)} is not a list of scales", "Each is above 0.")
        self.scales = tuple(scales)
        self.fusion = fusion
        self.head = HEADS[head](features, num_classes)
        self.rates = self.head.rates
        self.attention = (
            nn.Sequential(
                ConvNormAct(features.deepest.channels * len(scales), ATTENTION_CHANNELS, 3),
                nn.Conv2d(ATTENTION_CHANNELS, len(scales), 1),
            )
            if fusion == "attention"
            else None
        )

    def set_rates(self, rates: tuple[int, ...]) -> None:
        """Spread the taps of the inner head."""
        self.head.set_rates(rates)

    def forward(self, features: Sequence[Tensor], extent: Extent = WHOLE) -> Tensor:
        """Return the logits of one scale."""
        logits: Tensor = self.head(features, extent)
        return logits

    def fuse(self, logits: Sequence[Tensor], features: Sequence[Tensor]) -> Tensor:
        """Combine the logits of all scales, (B, K, h, w) each."""
        stacked = torch.stack(list(logits))  # (S, B, K, h, w)
        if self.attention is not None:
            weights = self.attention(torch.cat(list(features), dim=1)).softmax(dim=1)  # (B, S, h, w)
            weighed: Tensor = (stacked * weights.transpose(0, 1).unsqueeze(2)).sum(dim=0)
            return weighed
        return stacked.amax(dim=0) if self.fusion == "max" else stacked.mean(dim=0)
