from __future__ import annotations

import logging

import pytest
import torch
import torch.distributed
from torch import nn

from atrous.networks.layers.pooling import FEWEST_VALUES_PER_NORM, ImagePooling


def build() -> ImagePooling:
    torch.manual_seed(0)
    pooling = ImagePooling(6, 5)
    with torch.no_grad():
        pooling.norm.running_mean.normal_()
        pooling.norm.running_var.uniform_(0.5, 2)
    return pooling


def test_the_mean_of_each_channel_is_projected() -> None:
    pooling = build().eval()
    features = torch.randn(2, 6, 3, 4)
    with torch.inference_mode():
        means = features.mean(dim=(2, 3))
        raw = means @ pooling.conv.weight[:, :, 0, 0].T
        expected = torch.relu((raw - pooling.norm.running_mean) / (pooling.norm.running_var + pooling.norm.eps).sqrt())
        torch.testing.assert_close(pooling(features)[:, :, 0, 0], expected)


def test_only_cells_inside_are_averaged() -> None:
    pooling = build().eval()
    features = torch.randn(1, 6, 4, 5)
    inside = torch.zeros(4, 5)
    inside[:2, :3] = 1
    with torch.inference_mode():
        torch.testing.assert_close(pooling(features, inside), pooling(features[:, :, :2, :3]))
        torch.testing.assert_close(pooling(features, torch.ones(4, 5)), pooling(features))


@pytest.mark.parametrize("batch", range(1, FEWEST_VALUES_PER_NORM))
def test_few_values_are_normalised_as_in_evaluation(batch: int) -> None:
    pooling = build().train()
    features = torch.randn(batch, 6, 2, 2)
    trained = pooling(features)
    with torch.inference_mode():
        torch.testing.assert_close(trained, pooling.eval()(features))


def test_enough_values_are_normalised_among_themselves() -> None:
    pooling = build().train()
    features = torch.randn(FEWEST_VALUES_PER_NORM, 6, 2, 2)
    before = pooling.norm.running_mean.clone()
    raw = pooling.conv(features.mean(dim=(2, 3), keepdim=True))
    expected = torch.relu((raw - raw.mean(dim=0)) / (raw.var(dim=0, unbiased=False) + pooling.norm.eps).sqrt())
    torch.testing.assert_close(pooling(features), expected)
    assert not torch.equal(pooling.norm.running_mean, before)


def test_a_frozen_norm_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    pooling = build().train()
    pooling.norm.eval()
    with caplog.at_level(logging.WARNING, logger="atrous"):
        pooling(torch.randn(1, 6, 2, 2))
    assert not caplog.records


def test_other_processes_count_only_where_the_norm_is_synchronised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes with two pictures each: a plain norm still sees two values, which it would turn into +1 and -1."""
    monkeypatch.setattr("atrous.networks.layers.pooling._count_processes", lambda: 2)
    pooling = build().train()
    before = pooling.norm.running_mean.clone()
    pooling(torch.randn(2, 6, 2, 2))
    assert torch.equal(pooling.norm.running_mean, before)
    asked: list[tuple[int, ...]] = []
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(pooling)
    synchronised.norm.forward = lambda pooled: asked.append(tuple(pooled.shape)) or pooled
    synchronised(torch.randn(2, 6, 2, 2))
    assert asked == [(2, 5, 1, 1)]
