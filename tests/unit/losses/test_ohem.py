from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from atrous.core.errors import ConfigError
from atrous.core.labels import IGNORE_INDEX
from atrous.losses.contracts import count_weight
from atrous.losses.cross_entropy import CrossEntropy
from atrous.losses.ohem import OHEM


def build_case(seed, spread, size=(2, 4, 7, 9)):
    """Logits, labels with ignored ones, and the probability of each pixel's true class."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, generator=generator) * spread
    labels = torch.randint(size[1], (size[0], *size[2:]), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.3] = IGNORE_INDEX
    return logits, labels


def mine_naively(logits, labels, threshold, fraction, weights=None):
    """The weighted mean over hard pixels, one pixel at a time."""
    rows = []
    for scores, label in zip(logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1]), labels.flatten(), strict=True):
        if label != IGNORE_INDEX:
            probability = (scores.double().softmax(0))[label].item()
            rows.append((probability, 1.0 if weights is None else weights[label].item()))
    rows.sort()
    least = math.ceil(fraction * len(rows))
    kept = [row for rank, row in enumerate(rows) if row[0] < threshold or rank < least]
    return sum(-math.log(p) * w for p, w in kept) / sum(w for _, w in kept), len(kept), len(rows)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 1.0, 3.0, 0.25])], ids=["equal", "weighted"])
@pytest.mark.parametrize(
    ("threshold", "fraction", "by_threshold"), [(0.7, 0.0625, True), (0.01, 0.25, False), (1.0, 0.1, True)]
)
def test_the_loss_is_the_mean_of_a_loop_over_sorted_pixels(threshold, fraction, by_threshold, weights):
    logits, labels = build_case(0, spread=2.0)
    loss = OHEM(threshold=threshold, min_kept_fraction=fraction)(logits, labels, weights)
    expected, kept, valid = mine_naively(logits, labels, threshold, fraction, weights)
    assert (kept > math.ceil(fraction * valid)) == by_threshold  # the case is the one that it is meant to be
    assert loss.item() / count_weight(labels, weights).item() == pytest.approx(expected, rel=1e-5)


def test_easy_pixels_have_no_gradient_and_hard_ones_share_it():
    logits, labels = build_case(1, spread=3.0)
    logits.requires_grad_()
    OHEM(threshold=0.6, min_kept_fraction=0.01)(logits, labels).backward()
    probability = logits.detach().softmax(1).gather(1, labels.where(labels != IGNORE_INDEX, 0)[:, None])[:, 0]
    hard = (probability < 0.6) & (labels != IGNORE_INDEX)
    assert 0 < hard.sum() < (labels != IGNORE_INDEX).sum()
    assert torch.equal(logits.grad.abs().sum(1) > 0, hard)


def test_with_everything_kept_it_is_the_cross_entropy():
    logits, labels = build_case(2, spread=2.0)
    torch.testing.assert_close(OHEM(min_kept_fraction=1.0)(logits, labels), CrossEntropy()(logits, labels))
    mean = F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX)
    assert OHEM(min_kept_fraction=0.1)(logits, labels) / count_weight(labels) > mean


@pytest.mark.parametrize("options", [{"threshold": 0.0}, {"threshold": 1.5}, {"min_kept_fraction": 0.0}])
def test_a_number_outside_its_range_is_refused(options):
    with pytest.raises(ConfigError, match=f"training.loss_options.{next(iter(options))} is"):
        OHEM(**options)
