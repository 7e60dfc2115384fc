"""Image-level features: averages over the picture, and the norm that must live with few values."""

from __future__ import annotations

import logging

import torch
import torch.distributed
from torch import Tensor, nn
from torch.nn import functional as F

from atrous.networks.layers.conv import ConvNormAct

FEWEST_VALUES_PER_NORM = 4
"""Below this many values a channel a batch norm says nothing: at two its output is +1 and -1 whatever goes in."""

_log = logging.getLogger("atrous")


class ImagePooling(ConvNormAct):
    """Average over the picture, 1x1 convolution, norm, ReLU: one vector a picture.

    The norm sees one value a channel and picture. Where these are fewer than `FEWEST_VALUES_PER_NORM` in training (over
    all processes, if it is synchronised), its running statistics take the place of the batch's, which is said once.

    Shapes:
        in (B, C, h, w), inside (h, w) or None; out (B, C', 1, 1).
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels)
        self._said = False

    def forward(self, features: Tensor, inside: Tensor | None = None) -> Tensor:
        """Average the cells where `inside` is 1 (all of them if None) and project the mean."""
        if inside is None:
            pooled = features.mean(dim=(2, 3), keepdim=True)
        else:
            pooled = (features * inside).sum(dim=(2, 3), keepdim=True) / inside.sum()
        out: Tensor = self.act(self._normalise(self.conv(pooled)))
        return out

    def _normalise(self, pooled: Tensor) -> Tensor:
        # Only a synchronised norm sees the other processes' pictures.
        processes = _count_processes() if isinstance(self.norm, nn.SyncBatchNorm) else 1
        if not self.norm.training or pooled.shape[0] * processes >= FEWEST_VALUES_PER_NORM:
            normalised: Tensor = self.norm(pooled)
            return normalised
        if not self._said:
            self._said = True
            _log.warning(
                "image-level features: %d values per norm are too few; its running statistics are used", pooled.shape[0]
            )
        norm = self.norm
        return F.batch_norm(pooled, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)


def _count_processes() -> int:
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if ready else 1
