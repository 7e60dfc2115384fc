from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from atrous.core.errors import ConfigError
from atrous.core.labels import IGNORE_INDEX
from atrous.losses import banded
from atrous.losses.contracts import count_weight
from atrous.losses.cross_entropy import CrossEntropy
from atrous.networks.contracts import Geometry, count_cells
from atrous.networks.layers.resize import enlarge_logits

WEIGHTS = (0.5, 1.0, 3.0, 0.25)


def build_case(seed, size=(9, 13), stride=4, aligned=True, batch=2, ignored=0.3):
    """Logits of cells, their geometry, and labels of which a share is ignored."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = (count_cells(n, stride, aligned=aligned) for n in size)
    padded = [(count_cells(n, stride, aligned=aligned) - 1) * stride + 1 if aligned else n for n in size]
    logits = torch.randn(batch, len(WEIGHTS), rows, columns, generator=generator) * 3
    labels = torch.randint(len(WEIGHTS), (batch, *size), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = IGNORE_INDEX
    return logits, Geometry(*size, *padded, stride, aligned), labels


def sum_cross_entropy(logits, geometry, labels, weights=None):
    """The loss as training computes it, a band of rows at a time."""
    return CrossEntropy()(logits, labels, weights, geometry)


def enlarge(logits, geometry):
    """Full-size logits by torch's own resize, in the precision of the logits."""
    if not geometry.aligned:
        size = (geometry.height, geometry.width)
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    size = [(n - 1) * geometry.stride + 1 for n in logits.shape[2:]]
    full = F.interpolate(logits, size=size, mode="bilinear", align_corners=True)
    return full[:, :, : geometry.height, : geometry.width]


def sum_naively(full, labels, weights=None):
    """The sum over valid pixels, one pixel at a time, in float64."""
    total = 0.0
    for image, mask in zip(full.double().numpy(), labels.numpy(), strict=True):
        for y, x in np.ndindex(mask.shape):
            if mask[y, x] == IGNORE_INDEX:
                continue
            vector = image[:, y, x]
            norm = vector.max() + math.log(np.exp(vector - vector.max()).sum())
            total += (norm - vector[mask[y, x]]) * (weights[mask[y, x]] if weights else 1.0)
    return total


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["equal", "weighted"])
@pytest.mark.parametrize(
    ("size", "stride", "aligned"),
    [((9, 13), 4, True), ((10, 7), 4, True), ((17, 33), 8, True), ((8, 12), 4, False), ((1, 1), 16, True)],
)
def test_the_sum_is_that_of_a_loop_over_torchs_own_enlargement(size, stride, aligned, weights):
    logits, geometry, labels = build_case(0, size, stride, aligned)
    labels[0, 0, 0] = 1
    ours = sum_cross_entropy(logits, geometry, labels, None if weights is None else torch.tensor(weights))
    assert ours.dtype == torch.float32
    assert ours.item() == pytest.approx(sum_naively(enlarge(logits.double(), geometry), labels, weights), rel=1e-5)


@pytest.mark.parametrize("aligned", [True, False])
def test_the_gradient_is_that_of_torchs_own_resize_in_float64(aligned):
    logits, geometry, labels = build_case(1, (17, 21), 4, aligned)
    logits.requires_grad_()
    sum_cross_entropy(logits, geometry, labels, torch.tensor(WEIGHTS)).backward()
    precise = logits.detach().double().requires_grad_()
    weights = torch.tensor(WEIGHTS, dtype=torch.float64)
    F.cross_entropy(enlarge(precise, geometry), labels, weights, ignore_index=IGNORE_INDEX, reduction="sum").backward()
    torch.testing.assert_close(logits.grad.double(), precise.grad, rtol=1e-4, atol=1e-5)


def test_neighbours_that_are_sure_of_different_classes_have_a_finite_loss():
    """Half-way between them every class lies 500 below the highest of either: 0 in fp32 after exp, whose log is not."""
    geometry = Geometry(1, 9, 1, 9, 8, True)
    logits = torch.zeros(1, 3, 1, 2)
    logits[0, 0, 0, 0] = logits[0, 1, 0, 1] = 1000.0
    labels = torch.full((1, 1, 9), 2)
    precise = logits.double().requires_grad_()
    expected = F.cross_entropy(enlarge(precise, geometry), labels, reduction="sum")
    expected.backward()
    logits.requires_grad_()
    loss = sum_cross_entropy(logits, geometry, labels)
    loss.backward()
    torch.testing.assert_close(loss.double(), expected)
    torch.testing.assert_close(logits.grad.double(), precise.grad)


def test_cells_that_touch_ignored_pixels_alone_have_no_gradient_and_do_not_matter():
    logits, geometry, labels = build_case(3, (9, 9), 4, batch=1, ignored=0.0)
    labels[:, :, 5:] = IGNORE_INDEX  # cells stand at 0, 4, 8: the last column touches pixels 5 to 8 alone
    logits.requires_grad_()
    loss = sum_cross_entropy(logits, geometry, labels)
    loss.backward()
    assert torch.equal(logits.grad[..., 2], torch.zeros_like(logits.grad[..., 2]))
    assert logits.grad[..., :2].abs().min() > 0
    with torch.no_grad():
        logits[..., 2] = 1e4
    assert sum_cross_entropy(logits, geometry, labels) == loss


def test_a_batch_without_a_valid_pixel_is_zero_where_a_mean_would_be_nan():
    logits, geometry, labels = build_case(5)
    labels[:] = IGNORE_INDEX
    usual = F.cross_entropy(enlarge(logits, geometry), labels, ignore_index=IGNORE_INDEX)
    assert usual.isnan()
    logits.requires_grad_()
    for weights in (None, torch.tensor(WEIGHTS)):
        logits.grad = None
        loss = sum_cross_entropy(logits, geometry, labels, weights)
        (loss / count_weight(labels, weights).clamp(min=1.0)).backward()
        assert loss.item() == 0.0
        assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_weights_are_counted_by_class_and_never_for_ignored_pixels():
    _, _, labels = build_case(6)
    assert count_weight(labels).item() == (labels != IGNORE_INDEX).sum().item()
    expected = sum(WEIGHTS[n] for n in labels.flatten().tolist() if n != IGNORE_INDEX)
    assert count_weight(labels, torch.tensor(WEIGHTS)).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("weights", [None, torch.tensor(WEIGHTS)], ids=["equal", "weighted"])
def test_accumulated_passes_are_the_whole_batch_also_with_unequal_valid_pixels(weights):
    logits, geometry, labels = build_case(7, batch=4)
    labels[1, :7] = IGNORE_INDEX  # nearly nothing valid here
    labels[2] = IGNORE_INDEX  # and nothing here
    logits.requires_grad_()
    total = count_weight(labels, weights)
    whole = sum_cross_entropy(logits, geometry, labels, weights) / total
    whole.backward()
    expected, logits.grad = logits.grad, None
    shares = []
    for number in range(4):
        part = slice(number, number + 1)
        share = sum_cross_entropy(logits[part], geometry, labels[part], weights) / total
        share.backward()
        shares.append(share.item())
    assert sum(shares) == pytest.approx(whole.item(), rel=1e-6)
    torch.testing.assert_close(logits.grad, expected, rtol=1e-5, atol=1e-8)
    means = [  # what the usual mean over each pass's own pixels would make of it
        F.cross_entropy(enlarge(logits[n : n + 1], geometry), labels[n : n + 1], weights, ignore_index=IGNORE_INDEX)
        for n in (0, 1, 3)
    ]
    assert abs(torch.stack(means).mean().item() - whole.item()) > 1e-3


def test_bf16_logits_give_a_finite_loss_in_float32():
    logits, geometry, labels = build_case(8)
    rounded = (logits * 30).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = sum_cross_entropy(rounded, geometry, labels)
    loss.backward()
    assert loss.dtype == torch.float32
    assert rounded.grad.isfinite().all()
    assert loss.item() == pytest.approx(sum_naively(enlarge(rounded.detach().double(), geometry), labels), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("at_cells", [False, True])
def test_smoothed_labels_are_torchs_own(smoothing, at_cells):
    logits, geometry, labels = build_case(9)
    if at_cells:
        logits = enlarge_logits(logits, geometry)
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    loss = CrossEntropy(label_smoothing=smoothing)(ours, labels, None, None if at_cells else geometry)
    full = theirs if at_cells else enlarge_logits(theirs, geometry)
    options = {"ignore_index": IGNORE_INDEX, "reduction": "sum", "label_smoothing": smoothing}
    expected = F.cross_entropy(full, labels, **options)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_a_smoothing_outside_its_range_is_refused(smoothing):
    with pytest.raises(ConfigError, match=r"training\.loss_options.label_smoothing is"):
        CrossEntropy(label_smoothing=smoothing)


@pytest.mark.parametrize("aligned", [True, False])
def test_a_image_of_many_bands_is_that_of_one(monkeypatch, aligned):
    logits, geometry, labels = build_case(10, (61, 43), 8, aligned)
    results = []
    for band_bytes in (2**30, 3000, 1):
        monkeypatch.setattr(banded, "BAND_BYTES", band_bytes)
        values = logits.clone().requires_grad_()
        loss = sum_cross_entropy(values, geometry, labels, torch.tensor(WEIGHTS))
        loss.backward()
        results.append((loss.detach(), values.grad))
    for loss, gradient in results[1:]:
        torch.testing.assert_close(loss, results[0][0])
        torch.testing.assert_close(gradient, results[0][1], rtol=1e-4, atol=1e-5)


def test_neither_loss_nor_gradient_holds_full_size_logits():
    """150 classes at 257 x 257 are 37.8 MiB, the map stretched to the width 2.5 MiB, a band at most 5 MiB."""
    geometry = Geometry(257, 257, 257, 257, 16, True)
    logits = torch.randn(1, 150, 17, 17, requires_grad=True)
    labels = torch.randint(150, (1, 257, 257))
    with torch.profiler.profile(profile_memory=True, record_shapes=True) as profile:
        CrossEntropy()(logits, labels, None, geometry).backward()
    largest = max((math.prod(shape) for event in profile.events() for shape in event.input_shapes if shape), default=0)
    assert 0 < largest * 4 <= 5 * 2**20
