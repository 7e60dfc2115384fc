from __future__ import annotations

import pytest
import torch
import torch.distributed
from torch import nn
from torch.nn import functional as F

from atrous.networks.contracts import Extent
from atrous.networks.layers.pooling import FEWEST_VALUES_PER_NORM, ImagePooling, PyramidPooling


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
        torch.testing.assert_close(pooling(features), expected[:, :, None, None].expand(2, 5, 3, 4))


def test_only_cells_inside_are_averaged() -> None:
    pooling = build().eval()
    features = torch.randn(1, 6, 4, 5)
    with torch.inference_mode():
        pooled = pooling(features, Extent(inside=(2, 3)))
        assert pooled.shape == (1, 5, 4, 5)
        torch.testing.assert_close(pooled[:, :, :2, :3], pooling(features[:, :, :2, :3]))
        torch.testing.assert_close(pooling(features, Extent(inside=(4, 5))), pooling(features))


def test_windows_are_for_evaluation_alone() -> None:
    pooling, whole = build().train(), build().train()
    pooling.window = 2
    features = torch.randn(FEWEST_VALUES_PER_NORM, 6, 5, 9)
    torch.testing.assert_close(pooling(features), whole(features))


def test_each_grid_holds_the_averages_of_its_parts() -> None:
    torch.manual_seed(0)
    pooling = PyramidPooling(6, 4, bins=(1, 2)).eval()
    features = torch.randn(1, 6, 4, 6)
    with torch.inference_mode():
        whole, quarters = pooling(features).split(4, dim=1)
        torch.testing.assert_close(
            whole, pooling.projections[0](features.mean(dim=(2, 3), keepdim=True)).expand_as(whole)
        )
        for row, column in [(0, 0), (0, 5), (3, 0), (3, 5)]:
            down, across = (row // 2) * 2, (column // 3) * 3
            part = features[:, :, down : down + 2, across : across + 3].mean(dim=(2, 3), keepdim=True)
            expected = pooling.projections[1](part)[:, :, 0, 0]
            torch.testing.assert_close(quarters[:, :, row, column], expected)
        framed = F.pad(features, (0, 3, 0, 2), value=7.0)
        torch.testing.assert_close(pooling(framed, Extent(inside=(4, 6)))[:, :, :4, :6], pooling(features))


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (5, 6), (13, 4)], ids=str)
@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_grids_are_torchs_own(bins: int, size: tuple[int, int]) -> None:
    """On maps smaller than the grid too, where parts share cells."""
    pooling = PyramidPooling(4, 4, bins=(bins,)).eval()
    pooling.projections[0] = nn.Identity()
    features = torch.randn(2, 4, *size)
    pooled = F.adaptive_avg_pool2d(features, bins)
    expected = F.interpolate(pooled, size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(pooling(features), expected)
    framed = F.pad(features, (0, 3, 0, 2), value=7.0)
    padded = F.pad(expected, (0, 3, 0, 2), mode="replicate")
    torch.testing.assert_close(pooling(framed, Extent(inside=size)), padded)


@pytest.mark.parametrize("size", [(1, 1), (2, 7), (5, 9), (13, 3)], ids=str)
@pytest.mark.parametrize("window", [1, 3, 5, 20])
def test_windows_are_torchs_own(window: int, size: tuple[int, int]) -> None:
    pooling = build().eval()
    features = torch.randn(2, 6, *size)
    pooling.window = window
    sides = [min(window, side) for side in size]
    with torch.inference_mode():
        averages = F.avg_pool2d(features, sides, stride=1)
        pooled = pooling.act(pooling.norm(pooling.conv(averages)))
        expected = F.interpolate(pooled, size=size, mode="bilinear", align_corners=True)
        torch.testing.assert_close(pooling(features), expected)
        framed = F.pad(features, (0, 2, 0, 1), value=9.0)
        inside = pooling(framed, Extent(inside=size))[:, :, : size[0], : size[1]]
        torch.testing.assert_close(inside, expected)


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
    torch.testing.assert_close(pooling(features), expected.expand(-1, -1, 2, 2))
    assert not torch.equal(pooling.norm.running_mean, before)


def test_other_processes_count_where_the_norm_is_computed_over_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes with two images each: a norm of one process sees two values, which it would turn into +1 and -1."""
    pooling, features = build().train(), torch.randn(2, 6, 2, 2)
    before = pooling.norm.running_mean.clone()
    pooling(features)
    assert torch.equal(pooling.norm.running_mean, before)
    monkeypatch.setattr("atrous.networks.layers.pooling.count_synchronised", lambda: 2)
    pooling(features)
    assert not torch.equal(pooling.norm.running_mean, before)


def test_it_compiles_for_sizes_that_change() -> None:
    pooling = build().train()
    compiled = torch.compile(pooling, backend="aot_eager")
    for batch, height in ((5, 11), (3, 11), (3, 15)):
        features = torch.randn(batch, 6, height, 12, requires_grad=True)
        gradients = [torch.autograd.grad(each(features).square().sum(), features) for each in (compiled, pooling)]
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("inside", [None, (3, 4)])
@pytest.mark.parametrize("how", ["is_grads_batched", "vmap"])
def test_several_gradients_at_a_time_are_those_of_each(how: str, inside: tuple[int, int] | None) -> None:
    pooling, extent = build().eval(), Extent(inside=inside)
    features = torch.randn(2, 6, 5, 7, requires_grad=True)
    out = pooling(features, extent)
    towards = torch.randn(3, *out.shape)

    def differentiate(each: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(out, features, each, retain_graph=True)[0]

    if how == "vmap":
        found = torch.func.vmap(differentiate)(towards)
    else:
        (found,) = torch.autograd.grad(out, features, towards, retain_graph=True, is_grads_batched=True)
    torch.testing.assert_close(found, torch.stack([differentiate(each) for each in towards]))
