"""Downsampling of labels to the cells of the network."""

from __future__ import annotations

import torch
from torch import Tensor

from atrous.core.labels import IGNORE_INDEX
from atrous.networks.contracts import Geometry


def shrink_labels(labels: Tensor, geometry: Geometry) -> Tensor:
    """Sample labels at the centres of the cells, from the nearest pixel.

    Cells whose centre is outside the image are ignored.

    Args:
        labels: Labels at the resolution of the image.
        geometry: Positions of the cells in the image.
    Shapes:
        in (B, H, W) int64; out (B, h, w) int64.
    """
    sides = ((geometry.height, geometry.map_height), (geometry.width, geometry.map_width))
    rows, columns = (_locate_centres(size, cells, geometry, labels.device) for size, cells in sides)
    inside = (rows < geometry.height).unsqueeze(1) & (columns < geometry.width)  # (h, w)
    rows, columns = rows.clamp(max=geometry.height - 1), columns.clamp(max=geometry.width - 1)
    return labels[:, rows][:, :, columns].where(inside, IGNORE_INDEX)


def _locate_centres(size: int, cells: int, geometry: Geometry, device: torch.device) -> Tensor:
    """Return the pixel at the centre of each cell along one side, (cells,); with aligned corners it may be outside."""
    numbers = torch.arange(cells, device=device)
    return numbers * geometry.stride if geometry.aligned else (2 * numbers + 1) * size // (2 * cells)
