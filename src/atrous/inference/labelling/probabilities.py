"""The one loop from an image to probabilities: over windows, scales and the mirror image, a band of rows at a time.

Softmax is applied here, before averaging, and in `Band.compute_probs`, where one look at the image leaves nothing to
average. What is kept between bands are the network's cells, some rows of them
stretched to the image's width, so that K numbers for each pixel of a whole image never exist.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from atrous.core.errors import OutputError
from atrous.core.load_compiled import load_compiled
from atrous.core.records import Protocol
from atrous.inference.contracts import Backend, Band, ImageSource
from atrous.inference.labelling.likeliest import COMPILED, find_likeliest, label_cells
from atrous.inference.labelling.tiles import Span, compute_spans
from atrous.networks.contracts import Cells
from atrous.networks.layers.resize import Enlargement, iter_row_bands, scale_image


@torch.inference_mode()
def iter_bands(backend: Backend, image: ImageSource, protocol: Protocol, cells: Cells | None = None) -> Iterator[Band]:
    """Yield what is found of the image from top to bottom, averaged over windows, scales and the mirror image.

    Probabilities are averaged, not logits, as in the paper's section 4.1. One look at the whole image leaves nothing
    to average, and gives its logits, which saves the softmax where labels alone are wanted. The network runs on a
    window when the first band that needs it is asked for, and the window's cells go when the last one has passed.

    Args:
        backend: What runs the network, at the protocol's output stride and precision.
        image: What is labelled; each window of it is read once, rows of windows from top to bottom.
        protocol: Its window, scales and flip are applied here.
        cells: What the backend gave for the whole image, if it has been run on it; read if nothing is averaged.
    Shapes:
        the bands' scores (K, R, W) float32, the R adding up to the image's height.
    Raises:
        OutputError: A logit is NaN or infinite.
    """
    height, width = image.height, image.width
    row_spans, column_spans = compute_spans(height, protocol.window), compute_spans(width, protocol.window)
    views = [(scale, mirrored) for scale in protocol.scales for mirrored in (False, True)[: 1 + protocol.flip]]
    # What is worked on at once is a window's part of a band: a wide image in windows has no thinner bands.
    bands = iter_row_bands(height, 4 * backend.num_classes * min(width, protocol.window or width), backend.device)
    if len(views) == len(row_spans) == len(column_spans) == 1:
        if cells is None:
            look = _look(backend, image.read(slice(0, height), slice(0, width))[None], height, *views[0])
        else:
            look = _View(cells, (height, width), num_rows=height, mirrored=False)
        labels = look.find_labels()
        for rows in bands:
            logits = partial(look.compute_logits, rows.start, rows.stop)
            yield Band(rows.start, logits, are_logits=True, indices=None if labels is None else labels[rows])
        return
    seen: dict[tuple[Span, Span], list[_View]] = {}
    for rows in bands:
        start, stop = rows.start, rows.stop
        seen = {spans: kept for spans, kept in seen.items() if spans[0].stop > start}
        scores = torch.zeros(backend.num_classes, stop - start, width, device=backend.device)  # (K, R, W)
        for down in row_spans:
            top, bottom = max(start, down.start), min(stop, down.stop)
            for across in column_spans if top < bottom else ():
                if (down, across) not in seen:
                    window = image.read(slice(down.start, down.stop), slice(across.start, across.stop))[None]
                    seen[down, across] = [_look(backend, window, ROWS_WIDENED, *view) for view in views]
                weights = _multiply_weights(down, across, top, bottom).to(backend.device) / len(views)  # (r, w)
                into = scores[:, top - start : bottom - start, across.start : across.stop]
                for view in seen[down, across]:
                    into += view.compute_probs(top - down.start, bottom - down.start).mul_(weights)
        yield Band(start, scores, are_logits=False)


ROWS_WIDENED = 8
"""Of a window's cells at a time: few, since a wide image has many windows side by side."""


class _View:
    """What the network said of a scaled and perhaps mirrored copy of a window.

    Args:
        cells: Its words, for one copy.
        size: Height and width of the window in pixels.
        num_rows: How many rows of the cells are stretched to the window's width at a time.
        mirrored: Whether the copy was mirrored.
    Raises:
        OutputError: A logit is NaN or infinite.
    """

    def __init__(self, cells: Cells, size: tuple[int, int], *, num_rows: int, mirrored: bool) -> None:
        logits = cells.logits
        _require_finite(logits)
        self._enlargement = Enlargement(
            cells.geometry, (logits.shape[2], logits.shape[3]), size=size, device=logits.device
        )
        self._geometry = cells.geometry
        self._logits = logits
        self._num_rows = num_rows
        self._rows, self._widened = slice(0, 0), logits
        self._size = size
        self._mirrored = mirrored

    def find_labels(self) -> np.ndarray | None:
        """Return the likeliest class of each of the copy's pixels, (H, W) uint16; None where bands do it best."""
        if self._logits.device.type != "cpu" or self._logits.dtype == torch.float64 or self._geometry.stride == 1:
            return None
        logits = self._logits[0].float().contiguous()
        label_map = load_compiled(COMPILED)
        if label_map is None:
            return self._label_cells(logits)
        rows, columns = (
            (before.long().numpy(), share.float().numpy()) for before, share in self._enlargement.find_taps()
        )
        labels = np.empty(self._size, dtype=np.uint16)
        tops = find_likeliest(logits)  # (h, w)
        label_map(logits.numpy(), tops.numpy().astype(np.uint16), rows, columns, labels)
        return labels

    def _label_cells(self, logits: Tensor) -> np.ndarray | None:
        geometry, (height, width) = self._geometry, self._size
        if not geometry.aligned or (geometry.height, geometry.width) != self._size:
            return None
        return label_cells(logits, geometry.stride)[:height, :width].numpy().astype(np.uint16)

    def compute_probs(self, start: int, stop: int) -> Tensor:
        """Return the probabilities of some of the window's rows, (K, R, W) float32."""
        probs = self.compute_logits(start, stop).softmax(dim=0)
        return probs.flip(-1) if self._mirrored else probs

    @torch.inference_mode()
    def compute_logits(
        self, start: int, stop: int, chosen: slice = slice(None), columns: slice = slice(None)
    ) -> Tensor:
        """Return the logits of the copy's rows, or of `chosen` rows of them in some columns, (K, R, W) float32."""
        rows = self._enlargement.find_rows(start, stop)
        if not self._rows.start <= rows.start < rows.stop <= self._rows.stop:
            self._rows = slice(rows.start, max(rows.stop, rows.start + self._num_rows))
            self._widened = self._enlargement.widen(self._logits[:, :, self._rows])  # (1, K, h', W)
        widened = self._widened[..., columns]
        return self._enlargement.enlarge_band(widened, start, stop, first_row=self._rows.start, chosen=chosen)[0]


def _look(backend: Backend, window: Tensor, num_rows: int, scale: float, mirrored: bool) -> _View:
    """Run the network on a scaled and perhaps mirrored copy of a window, (1, 3, H, W); `num_rows` as of a view."""
    size = (window.shape[2], window.shape[3])
    window = window.to(backend.device)
    if scale != 1.0:
        floats = window / 255 if window.dtype == torch.uint8 else window
        window = scale_image(floats, scale, aligned=backend.aligned)
    return _View(backend(window.flip(-1) if mirrored else window), size, num_rows=num_rows, mirrored=mirrored)


def _require_finite(logits: Tensor) -> None:
    """Refuse logits among which one is NaN or infinite: comparisons would skip it without a sign."""
    # A sum reads them once and writes nothing; finite logits may still overflow it.
    if not logits.sum().isfinite() and not logits.isfinite().all():
        raise OutputError(
            "the network's output is not finite (NaN or infinite)",
            "Use `precision=fp32`. If the output is still not finite, the weights are unusable: train the model again.",
        )


def _multiply_weights(down: Span, across: Span, top: int, bottom: int) -> Tensor:
    """Return how much a window counts at the pixels of the image's rows `top` to `bottom`, (R, W)."""
    by_row = torch.from_numpy(down.weights[top - down.start : bottom - down.start])
    return by_row[:, None] * torch.from_numpy(across.weights)
