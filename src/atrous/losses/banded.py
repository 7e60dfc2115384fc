"""Cross-entropy between low-resolution logits and full-resolution labels, one band of rows at a time.

Full-resolution logits are never materialised: each band is upsampled, compared with its labels and turned into its
share of the gradient while it is in the cache. One pass computes loss and gradient, and only a tensor of the size of
the feature map is kept between forward and backward.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from atrous.core.labels import IGNORE_INDEX
from atrous.networks.contracts import Geometry
from atrous.networks.layers.resize import Enlargement, iter_row_bands

BAND_BYTES = 5 * 2**20
"""Bytes of logits per band. Larger bands amortise per-call overhead, which outweighs cache locality here."""
LOWEST_LOGIT = -80.0
"""Lowest logit relative to the maximum of its cell. Below it, exp of every class could underflow between two cells."""


def sum_cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor, geometry: Geometry | None = None, *, label_smoothing: float = 0.0
) -> Tensor:
    """Return the weighted sum of the cross-entropy of all pixels, once differentiable in the logits.

    Args:
        logits: Logits of each cell of the feature map, or of each pixel without a geometry.
        labels: Class indices; IGNORE_INDEX for ignored pixels.
        weights: Weight of each pixel; 0 for ignored pixels.
        geometry: Positions of the cells in the image. None: logits and labels have the same resolution.
        label_smoothing: Share of the target distributed evenly over all classes, in [0, 1).
    Shapes:
        logits (B, K, h, w), labels (B, H, W) int64, weights (B, H, W); out (), at least float32.
    """
    total: Tensor = _SumCrossEntropy.apply(logits, labels, weights, geometry, label_smoothing)
    return total


@torch.no_grad()
def compute_losses(logits: Tensor, labels: Tensor, geometry: Geometry | None = None) -> Tensor:
    """Return the cross-entropy of each pixel, without gradient. Values of ignored pixels are meaningless.

    Args:
        logits: Logits of each cell of the feature map, or of each pixel without a geometry.
        labels: Class indices; IGNORE_INDEX for ignored pixels.
        geometry: Positions of the cells in the image. None: logits and labels have the same resolution.
    Shapes:
        logits (B, K, h, w), labels (B, H, W) int64; out (B, H, W), at least float32.
    """
    bands = _Bands(logits, geometry)
    losses = [_compare(bands.read(rows), _select(labels, rows))[0] for rows in bands.iter_rows(labels.shape[1])]
    return torch.cat(losses, dim=2)[:, 0]


class _SumCrossEntropy(torch.autograd.Function):
    """See `sum_cross_entropy`."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
        logits: Tensor,
        labels: Tensor,
        weights: Tensor,
        geometry: Geometry | None,
        label_smoothing: float,
    ) -> Tensor:
        bands = _Bands(logits, geometry)
        total = bands.widened.new_zeros(())
        gradient = torch.zeros_like(bands.widened) if ctx.needs_input_grad[0] else None  # type: ignore[attr-defined]
        for rows in bands.iter_rows(labels.shape[1]):
            band, found = bands.read(rows), _select(labels, rows)
            weight = weights[:, None, rows].to(band.dtype)  # (B, 1, R, W)
            losses, sums = _compare(band, found, label_smoothing)
            total += (losses * weight).sum()
            if gradient is not None:
                band *= weight / sums
                band.scatter_add_(1, found, weight * (label_smoothing - 1))
                if label_smoothing:
                    band -= weight * (label_smoothing / band.shape[1])
                bands.add_gradient(gradient, rows, band)
        if gradient is not None:
            ctx.save_for_backward(bands.narrow(gradient).to(logits.dtype))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (of_logits,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return of_logits * gradients[0], None, None, None, None


class _Bands:
    """Reads a map as bands of rows of the image, and accumulates gradients of bands into a gradient of the map.

    Args:
        logits: The map, (B, K, h, w).
        geometry: Positions of its cells in the image. None: the cells are the pixels.
    """

    def __init__(self, logits: Tensor, geometry: Geometry | None) -> None:
        plain = logits.detach().contiguous()
        plain = plain.to(torch.promote_types(plain.dtype, torch.float32))
        # Cross-entropy does not change if a constant is subtracted from the logits of a pixel. After subtracting the
        # maximum of each cell, interpolated logits are <= 0, so the softmax of a band needs no maximum of its own.
        plain = plain - plain.amax(dim=1, keepdim=True)
        self._needs_shift = bool(plain.amin() < LOWEST_LOGIT)
        if geometry is None or geometry.stride == 1:
            self._enlargement = None
            self.widened = plain
        else:
            self._enlargement = Enlargement(geometry, (plain.shape[2], plain.shape[3]), device=plain.device)
            self.widened = self._enlargement.widen(plain)  # (B, K, h, W)

    def iter_rows(self, height: int) -> Iterator[slice]:
        """Yield the rows of each band."""
        row_bytes = self.widened[:, :, 0].numel() * self.widened.element_size()
        return iter_row_bands(height, row_bytes, self.widened.device, cpu_bytes=BAND_BYTES)

    def read(self, rows: slice) -> Tensor:
        """Return the logits of a band, (B, K, R, W), shifted to <= 0 per pixel; the caller may overwrite them."""
        if self._enlargement is None:
            band = self.widened[:, :, rows].clone()
        else:
            band = self._enlargement.enlarge_band(self.widened, rows.start, rows.stop)
        return band.sub_(band.amax(dim=1, keepdim=True)) if self._needs_shift else band

    def add_gradient(self, into: Tensor, rows: slice, gradient: Tensor) -> None:
        """Add the gradient of a band, (B, K, R, W), to the gradient of the widened map, (B, K, h, W)."""
        if self._enlargement is None:
            into[:, :, rows] = gradient
        else:
            with torch.autocast(gradient.device.type, enabled=False):
                of_map, by_row = self._enlargement.find_band(rows.start, rows.stop, gradient.dtype)
                into[:, :, of_map] += by_row.T @ gradient

    def narrow(self, gradient: Tensor) -> Tensor:
        """Convert a gradient of the widened map to a gradient of the map, (B, K, h, w)."""
        return gradient if self._enlargement is None else self._enlargement.narrow(gradient)


def _select(labels: Tensor, rows: slice) -> Tensor:
    """Return the labels of a band, (B, 1, R, W), with ignored pixels replaced by class 0."""
    band = labels[:, None, rows]
    return band.masked_fill(band == IGNORE_INDEX, 0)


def _compare(band: Tensor, found: Tensor, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of the pixels of a band, and the sums that normalise the overwritten band to a softmax.

    Shapes:
        band (B, K, R, W) logits, <= 0 with a maximum near 0, found (B, 1, R, W); out (B, 1, R, W) twice.
    """
    target = band.gather(1, found)
    if label_smoothing:
        target = torch.lerp(target, band.mean(dim=1, keepdim=True), label_smoothing)
    sums = band.exp_().sum(dim=1, keepdim=True)
    return sums.log() - target, sums
