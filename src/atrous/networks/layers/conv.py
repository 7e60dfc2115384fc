"""Convolution, norm and activation as one layer, plain or separable."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atrous.networks.layers.recomputation import norm_act
from atrous.networks.layers.taps import convolve_by_taps, taps_miss_map


class Conv(nn.Conv2d):
    """A convolution that trains as fast at large rates as at small ones.

    In training on a CPU its weight gradient skips products with padding, see `taps`. `lean = False` switches that off.

    Shapes:
        in (B, C, h, w); out (B, C', h', w').
    """

    lean = True

    def forward(self, features: Tensor) -> Tensor:
        """Return the convolution."""
        if self.lean and torch.is_grad_enabled() and self.weight.requires_grad and taps_miss_map(self, features):
            return convolve_by_taps(features, self.weight, self.bias, self.dilation)
        return super().forward(features)


class DepthwiseConv(nn.Conv2d):
    """A filter of its own for each channel, centred, without bias.

    In training on a CPU it computes in fp32 even under autocast: the bf16 gradient of a depthwise convolution is 3 to 4
    times slower there than the fp32 one, and made a whole training step in bf16 slower than in fp32. `lean = False`
    switches that off.

    Args:
        channels: Channels in and out.
        kernel: Side of the filter in cells, odd.
        stride: Stride.
        rate: Distance between filter taps in cells, >= 1.
    Shapes:
        in (B, C, h, w); out (B, C, h / stride, w / stride).
    """

    lean = True

    def __init__(self, channels: int, kernel: int, *, stride: int = 1, rate: int = 1) -> None:
        padding = rate * (kernel // 2)
        super().__init__(
            channels, channels, kernel, stride=stride, padding=padding, dilation=rate, groups=channels, bias=False
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the convolution."""
        is_training = torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")
        if features.device.type != "cpu" or not is_training or not self.lean:
            return super().forward(features)
        with torch.autocast("cpu", enabled=False):
            return super().forward(features.float()).to(features.dtype)


class ConvNormAct(nn.Module):
    """A centred convolution without bias, batch norm, ReLU.

    Args:
        in_channels, out_channels: Channels.
        kernel: Side of the filter in cells, odd.
        rate: Distance between filter taps in cells, >= 1.
        groups: Groups of the convolution.
    Shapes:
        in (B, C, h, w); out (B, C', h, w).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 1, *, rate: int = 1, groups: int = 1) -> None:
        super().__init__()
        padding = rate * (kernel // 2)
        self.conv = Conv(in_channels, out_channels, kernel, padding=padding, dilation=rate, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU(inplace=True)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, features: Tensor) -> Tensor:
        """Return the activation of the normalised convolution."""
        return norm_act(self.norm, self.act, self.conv(features))


class AtrousConv(nn.Module):
    """A 3x3 convolution whose rate can be changed at any time.

    Args:
        in_channels, out_channels: Channels.
        rate: Distance between filter taps in cells, >= 1.
        separable: Split into one 3x3 filter per channel and a 1x1 convolution, each with norm and ReLU.
    Shapes:
        in (B, C, h, w); out (B, C', h, w).
    """

    def __init__(self, in_channels: int, out_channels: int, *, rate: int, separable: bool = False) -> None:
        super().__init__()
        if separable:
            self.spatial = ConvNormAct(in_channels, in_channels, 3, rate=rate, groups=in_channels)
            self.pointwise: nn.Module = ConvNormAct(in_channels, out_channels)
        else:
            self.spatial = ConvNormAct(in_channels, out_channels, 3, rate=rate)
            self.pointwise = nn.Identity()

    def set_rate(self, rate: int) -> None:
        """Spread the taps to `rate` cells; weights are unchanged."""
        self.spatial.conv.dilation = (rate, rate)
        self.spatial.conv.padding = (rate, rate)

    def forward(self, features: Tensor) -> Tensor:
        """Return the convolution, and of a separable one the 1x1 convolution of it."""
        out: Tensor = self.pointwise(self.spatial(features))
        return out
