"""Cross-entropy of a map's logits at the image's pixels, a band of rows at a time.

Full-size logits of all classes are never held: a band is enlarged, compared with its labels and turned into its share
of the gradient while it lies in the cache. Loss and gradient come from one pass, and what is kept between forward and
backward is as large as the map.
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
"""Of the logits in a band: a dozen calls work on it, whose own time counts more than whose cache it lies in."""
LOWEST_LOGIT = -80.0
"""Less the highest of its cell; below it every class of a pixel between two cells could be 0 in fp32 after exp."""


def sum_cross_entropy(
    logits: Tensor, labels: Tensor, weights: Tensor, geometry: Geometry | None = None, *, label_smoothing: float = 0.0
) -> Tensor:
    """Return the weighted sum of the pixels' cross-entropy, once differentiable in the logits.

    Args:
        logits: One vector a cell of the network's map; one a pixel where there is no geometry.
        labels: Class indices, IGNORE_INDEX where ignored.
        weights: Of each pixel; 0 for those that do not count, ignored ones among them.
        geometry: Where the cells lie in the image; None where logits and labels are of the same pixels.
        label_smoothing: Share of the target that is spread evenly over all classes, in [0, 1).
    Shapes:
        logits (B, K, h, w), labels (B, H, W) int64, weights (B, H, W); out (), float32 at least.
    """
    total: Tensor = _SumCrossEntropy.apply(logits, labels, weights, geometry, label_smoothing)
    return total


@torch.no_grad()
def compute_losses(logits: Tensor, labels: Tensor, geometry: Geometry | None = None) -> Tensor:
    """Return the cross-entropy of each pixel, without gradient; that of an ignored pixel says nothing.

    Shapes:
        logits (B, K, h, w), labels (B, H, W) int64; out (B, H, W), float32 at least.
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
    """A map, read a band of the image's rows at a time; and the way back for gradients.

    Args:
        logits: The map, (B, K, h, w).
        geometry: Where its cells lie in the image; None where they are the pixels.
    """

    def __init__(self, logits: Tensor, geometry: Geometry | None) -> None:
        plain = logits.detach().contiguous()
        plain = plain.to(torch.promote_types(plain.dtype, torch.float32))
        # Cross-entropy is that of logits less any number a pixel. Less the highest of each cell, what lies between
        # cells is never above 0, so that the softmax of a band needs neither a highest nor a difference of its own.
        plain = plain - plain.amax(dim=1, keepdim=True)
        self._needs_shift = bool(plain.amin() < LOWEST_LOGIT)
        if geometry is None or geometry.stride == 1:
            self._enlargement = None
            self.widened = plain
        else:
            self._enlargement = Enlargement(geometry, (plain.shape[2], plain.shape[3]), device=plain.device)
            self.widened = self._enlargement.widen(plain)  # (B, K, h, W)

    def iter_rows(self, height: int) -> Iterator[slice]:
        """Yield the rows of one band after another."""
        row_bytes = self.widened[:, :, 0].numel() * self.widened.element_size()
        return iter_row_bands(height, row_bytes, self.widened.device, cpu_bytes=BAND_BYTES)

    def read(self, rows: slice) -> Tensor:
        """Return the logits of a band, (B, K, R, W), less a number a pixel, none above 0; they may be overwritten."""
        if self._enlargement is None:
            band = self.widened[:, :, rows].clone()
        else:
            band = self._enlargement.enlarge_band(self.widened, rows.start, rows.stop)
        return band.sub_(band.amax(dim=1, keepdim=True)) if self._needs_shift else band

    def add_gradient(self, into: Tensor, rows: slice, gradient: Tensor) -> None:
        """Add a band's gradient, (B, K, R, W), to that of the widened map, (B, K, h, W)."""
        if self._enlargement is None:
            into[:, :, rows] = gradient
        else:
            with torch.autocast(gradient.device.type, enabled=False):
                of_map, by_row = self._enlargement.find_band(rows.start, rows.stop, gradient.dtype)
                into[:, :, of_map] += by_row.T @ gradient

    def narrow(self, gradient: Tensor) -> Tensor:
        """Return the gradient of the map, (B, K, h, w), from that of the widened map."""
        return gradient if self._enlargement is None else self._enlargement.narrow(gradient)


def _select(labels: Tensor, rows: slice) -> Tensor:
    """Return the labels of a band, (B, 1, R, W), with a class in place of what is ignored."""
    band = labels[:, None, rows]
    return band.masked_fill(band == IGNORE_INDEX, 0)


def _compare(band: Tensor, found: Tensor, label_smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy of a band's pixels, and the sums by which the band, overwritten, becomes a softmax.

    Shapes:
        band (B, K, R, W) logits, none above 0 and not all far below, found (B, 1, R, W); out (B, 1, R, W) twice.
    """
    target = band.gather(1, found)
    if label_smoothing:
        target = torch.lerp(target, band.mean(dim=1, keepdim=True), label_smoothing)
    sums = band.exp_().sum(dim=1, keepdim=True)
    return sums.log() - target, sums
