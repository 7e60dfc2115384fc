"""Convolution, norm and activation as one layer, plain or separable."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from atrous.networks.layers import ways
from atrous.networks.layers.atrous import LIBRARY, convolve
from atrous.networks.layers.recomputation import norm_act
from atrous.networks.layers.ways import choose_ways, find_taps


class Conv(nn.Conv2d):
    """A convolution that is as fast at large rates as at small ones, on a CPU.

    An atrous convolution is computed in the way that is the fastest there, see `ways`. In training, a depthwise one
    computes in fp32 even under autocast: its bf16 gradient is 3 to 4 times slower than the fp32 one, and made a whole
    training step in bf16 slower than in fp32. `lean = False` switches both off.

    Shapes:
        in (B, C, h, w); out (B, C', h', w').
    """

    lean = True

    def forward(self, features: Tensor) -> Tensor:
        """Return the convolution."""
        is_tensor = isinstance(features, Tensor)  # torch.fx traces with what stands for one
        if not (self.lean and is_tensor and features.device.type == "cpu" and features.dim() == 4 and features.numel()):
            return super().forward(features)
        is_cast = torch.is_autocast_enabled("cpu")
        dtypes = {features.dtype, self.weight.dtype}
        if (torch.float64 in dtypes if is_cast else len(dtypes) > 1) or not all(
            each.is_floating_point for each in dtypes
        ):
            return super().forward(features)  # which refuses what does not fit, and multiplies complex numbers
        is_training = torch.is_grad_enabled() and self.weight.requires_grad
        is_wide = self.weight.dtype == torch.float32
        if self.groups == self.in_channels > 1 and is_training and is_cast and is_wide:
            with torch.autocast("cpu", enabled=False):
                return self._convolve(features.float(), is_training).to(features.dtype)
        return self._convolve(features, is_training)

    def _convolve(self, features: Tensor, is_training: bool) -> Tensor:
        taps = None if keeps_plain_form(is_training=is_training) else find_taps(self)
        if taps is None:
            return super().forward(features)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else features.dtype
        chosen = choose_ways(taps, features, dtype=dtype, kind=ways.KIND)
        if chosen == LIBRARY or (chosen.output == "library" and not torch.is_grad_enabled()):
            return super().forward(features)
        return convolve(features, self.weight, self.bias, taps, chosen)


class DepthwiseConv(Conv):
    """A filter of its own for each channel, centred, without bias.

    Args:
        channels: Channels in and out.
        kernel: Side of the filter in cells, odd.
        stride: Stride.
        rate: Distance between filter taps in cells, >= 1.
    Shapes:
        in (B, C, h, w); out (B, C, h / stride, w / stride).
    """

    def __init__(self, channels: int, kernel: int, *, stride: int = 1, rate: int = 1) -> None:
        padding = rate * (kernel // 2)
        super().__init__(
            channels, channels, kernel, stride=stride, padding=padding, dilation=rate, groups=channels, bias=False
        )


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


def keeps_plain_form(*, is_training: bool) -> bool:
    """Return whether a layer becomes part of a graph for other sizes or other programs.

    Or of a transform of torch.func, or of forward-mode differentiation: an autograd function has no rules for them.

    Args:
        is_training: Whether the layer is trained.
    """
    if torch.compiler.is_compiling():
        return not is_training or torch.compiler.is_exporting()
    is_transformed = torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
    return torch._C._get_tracing_state() is not None or is_transformed
