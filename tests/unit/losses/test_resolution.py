from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from atrous.core.labels import IGNORE_INDEX
from atrous.losses.resolution import shrink_labels
from atrous.networks.contracts import Geometry, count_cells


def build_case(size, stride, aligned):
    padded = [(count_cells(n, stride, aligned=aligned) - 1) * stride + 1 if aligned else n for n in size]
    labels = torch.randint(5, (2, *size), generator=torch.Generator().manual_seed(0))
    return labels, Geometry(*size, *padded, stride, aligned)


@pytest.mark.parametrize("size", [(33, 65), (40, 50), (1, 1), (17, 2)])
@pytest.mark.parametrize("stride", [4, 8, 16])
def test_aligned_cells_read_the_pixel_that_they_stand_on(size, stride):
    labels, geometry = build_case(size, stride, aligned=True)
    shrunk = shrink_labels(labels, geometry)
    assert shrunk.shape == (2, geometry.map_height, geometry.map_width)
    for image, row, column in np.ndindex(*shrunk.shape):
        y, x = row * stride, column * stride
        inside = y < size[0] and x < size[1]
        assert shrunk[image, row, column] == (labels[image, y, x] if inside else IGNORE_INDEX)


@pytest.mark.parametrize("size", [(32, 64), (40, 50), (1, 1), (17, 2)])
@pytest.mark.parametrize("stride", [4, 8, 16])
def test_cells_with_half_pixel_centres_read_as_torchs_exact_nearest(size, stride):
    labels, geometry = build_case(size, stride, aligned=False)
    shrunk = shrink_labels(labels, geometry)
    cells = (geometry.map_height, geometry.map_width)
    expected = F.interpolate(labels[:, None].double(), size=cells, mode="nearest-exact")[:, 0].long()
    assert torch.equal(shrunk, expected)
