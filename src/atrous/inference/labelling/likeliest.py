"""The last stage: from a map of logits, or from scores, to the class that is the likeliest at each pixel."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from atrous.core.load_compiled import load_compiled
from atrous.networks.layers.resize import CPU_BAND_BYTES

COMPILED = "atrous.inference.labelling.compiled:label_map"


def name_last_stage(device: torch.device) -> str:
    """Return what finds the labels in the logits of one look at an image: "numba" or "torch"."""
    return "numba" if device.type == "cpu" and load_compiled(COMPILED) is not None else "torch"


def find_likeliest(scores: Tensor) -> Tensor:
    """Return the index of the largest score of each pixel, the first of equal ones.

    On a CPU torch's own argmax works one number at a time where the classes are not the last dimension. Two largest
    values, of the scores and of the bytes that say which classes reach the first, are several times as fast.

    Shapes:
        in (K, R, W) floats; out (R, W) uint8 up to 255 classes, else int64.
    """
    num_classes = len(scores)
    if scores.device.type != "cpu" or num_classes > 255:
        return scores.argmax(dim=0)
    ranks = torch.arange(num_classes, 0, -1, dtype=torch.uint8)[:, None, None]  # K for the first class, 1 for the last
    reached = (scores == scores.amax(dim=0)).view(torch.uint8).mul_(ranks).amax(dim=0)
    return num_classes - reached.clamp_(min=1)  # scores that are no numbers reach nothing


def label_cells(logits: Tensor, stride: int) -> Tensor:
    """Return the likeliest class of each pixel, the first of equal ones, from an aligned map: cells on pixels i * s.

    Between four cells of one class all pixels have it, since each class's score is a mean of its scores there. Only the
    others are interpolated, as many at a time as the cache holds.

    Args:
        logits: A map on the CPU, float32.
        stride: Pixels from one cell to the next.
    Shapes:
        in (K, h, w); out (h * s, w * s) as `find_likeliest` gives it; the image is its upper left part.
    """
    num_classes, rows, columns = logits.shape
    # Beyond the last cell the scores stay what they are.
    cells = F.pad(logits[None], (0, 1, 0, 1), mode="replicate")[0]  # (K, h + 1, w + 1)
    tops = find_likeliest(cells)
    top = tops[:-1, :-1]
    is_mixed = (tops[:-1, 1:] != top) | (tops[1:, :-1] != top) | (tops[1:, 1:] != top)
    labels = top.repeat_interleave(stride, dim=0).repeat_interleave(stride, dim=1)
    patches = labels.view(rows, stride, columns, stride)
    share = torch.arange(stride, dtype=torch.float32) / stride
    ends = torch.stack([1 - share, share], dim=1)  # (s, 2)
    weights = (ends[:, None, :, None] * ends[None, :, None, :]).view(stride**2, 4)
    at_once = max(CPU_BAND_BYTES // (4 * num_classes * stride**2), 1)
    for row, column in (part.unbind(dim=1) for part in torch.split(is_mixed.nonzero(), at_once)):
        corners = [cells[:, row + down, column + across] for down in (0, 1) for across in (0, 1)]
        found = find_likeliest(weights @ torch.stack(corners, dim=1))  # (s * s, n)
        patches[row, :, column] = found.view(stride, stride, -1).permute(2, 0, 1)
    return labels
