"""What every entry of LOSSES must keep."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from atrous.core.labels import IGNORE_INDEX
from atrous.losses import LOSSES
from atrous.losses.contracts import count_weight
from atrous.networks.contracts import Geometry
from atrous.networks.layers.resize import enlarge_logits

WEIGHTS = torch.tensor([0.5, 1.0, 3.0])
both_weightings = pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])


@pytest.fixture(params=list(LOSSES))
def loss(request):
    return LOSSES.load(request.param)()


def build_case(seed, size=(2, 3, 6, 8), dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(size, generator=generator, dtype=torch.float64) * 3).to(dtype).requires_grad_()
    labels = torch.randint(size[1], (size[0], *size[2:]), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.3] = IGNORE_INDEX
    return logits, labels


@both_weightings
def test_ignored_pixels_have_no_gradient_and_do_not_matter(loss, weights):
    logits, labels = build_case(0)
    ignored = (labels == IGNORE_INDEX)[:, None].expand_as(logits)
    value = loss(logits, labels, weights)
    value.backward()
    assert logits.grad[ignored].abs().max() == 0
    assert logits.grad[~ignored].abs().max() > 0
    assert torch.equal(loss(logits.detach().masked_fill(ignored, 1e4), labels, weights), value)


@both_weightings
def test_a_batch_without_a_valid_pixel_is_zero_with_zero_gradients(loss, weights):
    logits, labels = build_case(1)
    value = loss(logits, torch.full_like(labels, IGNORE_INDEX), weights)
    value.backward()
    assert value.item() == 0.0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@both_weightings
def test_narrow_logits_give_a_finite_loss_in_float32(loss, weights):
    logits, labels = build_case(2, dtype=torch.bfloat16)
    value = loss(logits * 30, labels, weights)
    value.backward()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert logits.grad.isfinite().all()
    torch.testing.assert_close(value, loss(logits.detach().float() * 30, labels, weights), rtol=0.02, atol=0.0)


@both_weightings
def test_the_gradient_is_that_of_finite_differences(loss, weights):
    logits, labels = build_case(3, (1, 3, 3, 4), dtype=torch.float64)
    double = None if weights is None else weights.double()
    assert gradcheck(lambda values: loss(values, labels, double), logits)


@both_weightings
def test_accumulated_passes_over_equal_images_are_the_whole_batch(loss, weights):
    logits, labels = build_case(4)
    twice, labels_twice = torch.cat([logits, logits]), torch.cat([labels, labels])
    whole = loss(twice, labels_twice, weights) / count_weight(labels_twice, weights)
    (expected,) = torch.autograd.grad(whole, logits)
    total = 2 * count_weight(labels, weights)
    shares = [loss(logits, labels, weights) / total for _ in range(2)]
    torch.testing.assert_close(sum(shares), whole)
    (accumulated,) = torch.autograd.grad(sum(shares), logits)
    torch.testing.assert_close(accumulated, expected)


@both_weightings
@pytest.mark.parametrize("aligned", [True, False])
def test_cells_with_their_geometry_are_their_enlargement(loss, weights, aligned):
    geometry = Geometry(20, 27, 33, 33, 8, aligned)
    logits, _ = build_case(6, (2, 3, geometry.map_height, geometry.map_width))
    _, labels = build_case(7, (2, 3, 20, 27))
    value = loss(logits, labels, weights, geometry)
    expected = loss(enlarge_logits(logits, geometry), labels, weights)
    torch.testing.assert_close(value, expected)
    found, wanted = (torch.autograd.grad(total, logits)[0] for total in (value, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@both_weightings
def test_the_gradient_through_the_enlargement_is_that_of_finite_differences(loss, weights):
    geometry = Geometry(9, 7, 9, 9, 4, True)
    logits, _ = build_case(8, (1, 3, geometry.map_height, geometry.map_width), dtype=torch.float64)
    _, labels = build_case(9, (1, 3, 9, 7))
    double = None if weights is None else weights.double()
    assert gradcheck(lambda values: loss(values, labels, double, geometry), logits)


def test_confident_and_right_is_less_than_confident_and_wrong(loss):
    _, labels = build_case(5)
    right = torch.nn.functional.one_hot(labels.where(labels != IGNORE_INDEX, 0), 3).permute(0, 3, 1, 2) * 8.0
    assert 0 <= loss(right, labels) < 0.01 * loss(-right, labels)


CONTRACT = (
    test_ignored_pixels_have_no_gradient_and_do_not_matter,
    test_a_batch_without_a_valid_pixel_is_zero_with_zero_gradients,
    test_narrow_logits_give_a_finite_loss_in_float32,
    test_the_gradient_is_that_of_finite_differences,
    test_accumulated_passes_over_equal_images_are_the_whole_batch,
    test_cells_with_their_geometry_are_their_enlargement,
    test_the_gradient_through_the_enlargement_is_that_of_finite_differences,
    test_confident_and_right_is_less_than_confident_and_wrong,
)
"""What `test_extension.py` asks of a part from outside the package."""
