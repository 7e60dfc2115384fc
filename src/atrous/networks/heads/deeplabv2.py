"""The sum of several atrous convolutions that output class scores: the head of DeepLabv2."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from atrous.networks.contracts import WHOLE, Extent, FeatureShapes, Head
from atrous.networks.layers.conv import Conv
from atrous.networks.rates import require_rates


class DeepLabV2Head(Head):
    """One 3x3 convolution to class scores at each rate, and their sum; no norm, no image-level features.

    Rates are given for output stride 16, as everywhere: the default is the paper's 6, 12, 18, 24 at output stride 8.

    Args:
        features: Channels and stride of each backbone level; the deepest one is read.
        num_classes: Scored classes, the ignore index not counted.
        rates: Distance between taps in stride-16 cells, each >= 1.
    Shapes:
        in levels of (B, C, h, w) float features; out (B, K, h, w) logits, one vector per cell.
    Raises:
        ConfigError: `rates` is empty or holds a number below 1.
    Source: Chen et al. 2016 (arXiv 1606.00915), section 3.2.
    """

    def __init__(self, features: FeatureShapes, num_classes: int, *, rates: tuple[int, ...] = (3, 6, 9, 12)) -> None:
        super().__init__()
        require_rates(rates)
        self.rates = tuple(rates)
        channels = features.deepest.channels
        self.classifiers = nn.ModuleList(Conv(channels, num_classes, 3, padding=rate, dilation=rate) for rate in rates)
        for parameter in self.classifiers.parameters():
            nn.init.normal_(parameter, std=0.01) if parameter.dim() > 1 else nn.init.zeros_(parameter)

    def set_rates(self, rates: tuple[int, ...]) -> None:
        """Spread the taps of the classifiers; `rates` has one number for each."""
        for classifier, rate in zip(self.classifiers, rates, strict=True):
            classifier.dilation = (rate, rate)  # type: ignore[assignment]
            classifier.padding = (rate, rate)  # type: ignore[assignment]

    def forward(self, features: Sequence[Tensor], extent: Extent = WHOLE) -> Tensor:
        """Return the logits."""
        return torch.stack([classifier(features[-1]) for classifier in self.classifiers]).sum(dim=0)
