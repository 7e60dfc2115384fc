from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from atrous.networks.contracts import Geometry, count_cells
from atrous.networks.layers.resize import Enlargement, compute_interpolation, enlarge_logits, scale_image

SIDES = st.integers(1, 70)
STRIDES = st.sampled_from([4, 8, 16, 32])


def describe(height: int, width: int, stride: int, *, aligned: bool) -> Geometry:
    return Geometry(height, width, -(-(height - 1) // 32) * 32 + 1, -(-(width - 1) // 32) * 32 + 1, stride, aligned)


def draw_logits(geometry: Geometry, classes: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(geometry.height + 100 * geometry.width)
    return torch.randn(2, classes, geometry.map_height, geometry.map_width, generator=generator)


@settings(max_examples=60, deadline=None)
@given(height=SIDES, width=SIDES, stride=STRIDES)
def test_half_pixel_is_torchs_own(height: int, width: int, stride: int) -> None:
    geometry = describe(height, width, stride, aligned=False)
    logits = draw_logits(geometry)
    expected = F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
    torch.testing.assert_close(enlarge_logits(logits, geometry), expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(height=SIDES, width=SIDES, stride=STRIDES)
def test_aligned_is_torchs_own_on_whole_cells_then_cut(height: int, width: int, stride: int) -> None:
    geometry = describe(height, width, stride, aligned=True)
    logits = draw_logits(geometry)
    whole = tuple((cells - 1) * stride + 1 for cells in logits.shape[2:])
    expected = F.interpolate(logits, size=whole, mode="bilinear", align_corners=True)[:, :, :height, :width]
    torch.testing.assert_close(enlarge_logits(logits, geometry), expected, rtol=1e-4, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(height=SIDES, width=SIDES, stride=STRIDES, aligned=st.booleans(), scale=st.sampled_from([0.5, 1, 1.25]))
def test_bands_of_rows_are_the_whole_cut_up(height: int, width: int, stride: int, aligned: bool, scale: float) -> None:
    seen = scale_image(torch.zeros(1, 3, height, width), scale, aligned=aligned).shape[2:]
    geometry = describe(*seen, stride, aligned=aligned)
    logits, size = draw_logits(geometry), (height, width)
    whole = enlarge_logits(logits, geometry, size=size)
    assert whole.shape == (2, 3, height, width)
    enlargement = Enlargement(geometry, logits.shape[2:], size=size, device=logits.device)
    widened = enlargement.widen(logits)
    cuts = sorted({0, height // 3, height // 2, height})
    bands = [enlargement.enlarge_band(widened, *pair) for pair in itertools.pairwise(cuts)]
    torch.testing.assert_close(torch.cat(bands, dim=2), whole, rtol=1e-6, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(height=SIDES, width=SIDES, stride=STRIDES)
def test_cells_keep_their_values_where_corners_are_aligned(height: int, width: int, stride: int) -> None:
    geometry = describe(height, width, stride, aligned=True)
    logits = draw_logits(geometry)
    on_cells = enlarge_logits(logits, geometry)[:, :, ::stride, ::stride]
    torch.testing.assert_close(on_cells, logits[:, :, : on_cells.shape[2], : on_cells.shape[3]])


@settings(max_examples=40, deadline=None)
@given(height=SIDES, width=SIDES, stride=STRIDES, scale=st.sampled_from([0.5, 0.75, 1.0, 1.25, 1.5, 1.75]))
def test_a_ramp_comes_back_as_itself_at_every_scale(height: int, width: int, stride: int, scale: float) -> None:
    """Each cell holds its own place in the image; so must each pixel afterwards."""
    seen = scale_image(torch.zeros(1, 3, height, width), scale, aligned=True).shape[2:]
    geometry = describe(*seen, stride, aligned=True)
    factors = [(n - 1) / max(s - 1, 1) for n, s in zip((height, width), seen, strict=True)]
    rows = torch.arange(geometry.map_height).view(1, 1, -1, 1) * stride * factors[0]
    columns = torch.arange(geometry.map_width).view(1, 1, 1, -1) * stride * factors[1]
    size = (geometry.map_height, geometry.map_width)
    logits = torch.cat([rows.expand(1, 1, *size), columns.expand(1, 1, *size)], dim=1).float()
    pixels = enlarge_logits(logits, geometry, size=(height, width))
    expected_rows = torch.arange(height).view(-1, 1).expand(height, width).float()
    expected_columns = torch.arange(width).expand(height, width).float()
    if seen[0] > 1:
        torch.testing.assert_close(pixels[0, 0], expected_rows, rtol=1e-4, atol=1e-3)
    if seen[1] > 1:
        torch.testing.assert_close(pixels[0, 1], expected_columns, rtol=1e-4, atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(height=SIDES, width=SIDES, scale=st.floats(0.3, 2.0), aligned=st.booleans())
def test_scaled_copies_have_the_nearest_size_and_numpys_values(
    height: int, width: int, scale: float, aligned: bool
) -> None:
    image = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(0))
    scaled = scale_image(image, scale, aligned=aligned)
    expected = image[0, 0].double().numpy()
    for axis, (side, found) in enumerate(zip((height, width), scaled.shape[2:], strict=True)):
        if aligned:  # corner pixels lie on corner pixels
            assert abs((found - 1) - (side - 1) * scale) <= 0.5
            places = np.linspace(0, side - 1, found)
        else:  # pixels are areas; beyond the outermost centres lies their own value
            assert found == 1 or abs(found - side * scale) <= 0.5
            places = (np.arange(found) + 0.5) * side / found - 0.5
        lines = np.moveaxis(expected, axis, 1)
        expected = np.moveaxis(np.stack([np.interp(places, np.arange(side), line) for line in lines]), 1, axis)
    np.testing.assert_allclose(scaled[0, 0].numpy(), expected, atol=1e-4)


def test_scale_one_is_the_image_itself() -> None:
    images = torch.rand(1, 3, 5, 7)
    assert scale_image(images, 1.0, aligned=True) is images


@settings(max_examples=60, deadline=None)
@given(count=st.integers(1, 9), positions=st.lists(st.floats(-3, 12), min_size=1, max_size=9))
def test_interpolation_rows_are_weights(count: int, positions: list[float]) -> None:
    matrix = compute_interpolation(torch.tensor(positions, dtype=torch.float64), count)
    assert matrix.shape == (len(positions), count)
    torch.testing.assert_close(matrix.sum(dim=1), torch.ones(len(positions)))
    assert (matrix >= 0).all()
    assert ((matrix > 0).sum(dim=1) <= 2).all()
    read = matrix.double() @ torch.arange(count, dtype=torch.float64)
    expected = torch.tensor(positions, dtype=torch.float64).clamp(0, count - 1)
    torch.testing.assert_close(read, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("aligned", [True, False])
def test_enlarging_has_a_gradient(aligned: bool) -> None:
    geometry = describe(9, 14, 4, aligned=aligned)
    logits = draw_logits(geometry).requires_grad_()
    enlarge_logits(logits, geometry).sum().backward()
    assert logits.grad.sum() == pytest.approx(2 * 3 * 9 * 14, rel=1e-4)


def test_logits_of_every_pixel_are_taken_as_they_are() -> None:
    logits = torch.randn(2, 3, 9, 14)
    enlargement = Enlargement(Geometry(9, 14, 9, 14, 1, True), (9, 14), device=logits.device)
    band = enlargement.enlarge_band(enlargement.widen(logits), 2, 5)
    assert torch.equal(band, logits[:, :, 2:5])
    assert band.untyped_storage().data_ptr() == logits.untyped_storage().data_ptr()
    scaled = enlarge_logits(logits, Geometry(9, 14, 9, 14, 1, True), size=(17, 27))
    torch.testing.assert_close(scaled, F.interpolate(logits, size=(17, 27), mode="bilinear", align_corners=True))


def test_enlarging_is_exact_under_autocast() -> None:
    geometry = describe(33, 65, 16, aligned=True)
    logits = draw_logits(geometry)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        enlarged = enlarge_logits(logits, geometry)
    assert torch.equal(enlarged, enlarge_logits(logits, geometry))


def test_counting_cells() -> None:
    assert [count_cells(n, 16, aligned=True) for n in (1, 2, 17, 18, 513)] == [1, 2, 2, 3, 33]
    assert [count_cells(n, 16, aligned=False) for n in (1, 16, 17, 513)] == [1, 1, 2, 33]
