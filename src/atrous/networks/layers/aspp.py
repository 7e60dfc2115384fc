"""Atrous spatial pyramid pooling: the same features seen at several rates."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atrous.networks.contracts import WHOLE, Extent
from atrous.networks.layers.conv import AtrousConv, ConvNormAct
from atrous.networks.layers.pooling import ImagePooling


class ASPP(nn.Module):
    """Parallel branches (1x1, 3x3 at several rates, image-level features), then a 1x1 convolution of all of them.

    Args:
        in_channels: Channels of the features.
        channels: Filters of each branch and of the projection.
        rates: Distance between taps in current cells, each >= 1.
        separable: Make the 3x3 branches depthwise separable.
        image_features: Whether there is an image-level branch.
    Shapes:
        in (B, C, h, w); out (B, channels, h, w).
    Source: Chen et al. 2017 (arXiv 1706.05587), section 3.3.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        rates: tuple[int, ...],
        separable: bool = False,
        image_features: bool = True,
    ) -> None:
        super().__init__()
        self.point = ConvNormAct(in_channels, channels)
        self.atrous = nn.ModuleList(AtrousConv(in_channels, channels, rate=rate, separable=separable) for rate in rates)
        self.pooling = ImagePooling(in_channels, channels) if image_features else None
        self.projection = ConvNormAct(channels * (1 + len(rates) + image_features), channels)

    def set_rates(self, rates: tuple[int, ...]) -> None:
        """Spread the taps of the branches; `rates` has one number for each."""
        for branch, rate in zip(self.atrous, rates, strict=True):
            branch.set_rate(rate)  # type: ignore[operator]

    def forward(self, features: Tensor, extent: Extent = WHOLE) -> Tensor:
        """Return the projection of all branches."""
        branches = [self.point(features), *(branch(features) for branch in self.atrous)]
        if self.pooling is not None:
            branches.append(self.pooling(features, extent))
        projected: Tensor = self.projection(torch.cat(branches, dim=1))
        return projected
