from __future__ import annotations

import copy
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector, parametrize, vector_to_parameters

from atrous.inference.weights_digest import NetworkDigest, _DeviceMemory
from atrous.networks.segmenter import Segmenter


def build() -> nn.Module:
    """A layer large enough for two threads, and for groups of rows with rows left over; and small ones."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(64, 7301, 3), nn.BatchNorm2d(7301), nn.Linear(5, 3, bias=False))


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return build()


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_the_smallest_change_of_any_element_is_seen(network: nn.Module, layer: int) -> None:
    digest = NetworkDigest(network)
    before = digest.compute()
    weight = network[layer].weight.data.view(-1)
    generator = torch.Generator().manual_seed(layer)
    for index in [0, len(weight) - 1, *torch.randint(len(weight), (40,), generator=generator).tolist()]:
        kept = weight[index].clone()
        weight[index] = torch.nextafter(kept, torch.tensor(torch.inf))
        assert digest.compute() != before
        weight[index] = kept
        assert digest.compute() == before


def negate_odd_inputs(weight: torch.Tensor) -> None:
    weight.data[:, 1::2] *= -1


CHANGES: dict[str, Callable[[torch.Tensor], object]] = {
    "add": lambda weight: weight.data.add_(1),
    "flip outputs": lambda weight: weight.data.copy_(weight.data.flip(0)),
    "flip inputs": lambda weight: weight.data.copy_(weight.data.flip(1)),
    "flip kernels": lambda weight: weight.data.copy_(weight.data.flip(3)),
    "roll": lambda weight: weight.data.copy_(weight.data.roll(1)),
    "swap two neighbours": lambda weight: weight.data.view(-1)[:2].copy_(weight.data.view(-1)[:2].flip(0)),
    "swap two words": lambda weight: weight.data.view(-1)[:4].copy_(weight.data.view(-1)[:4].roll(2)),
    "negate": lambda weight: weight.data.neg_(),
    "negate every other input": negate_odd_inputs,
    "double": lambda weight: weight.data.mul_(2),
    "other memory": lambda weight: setattr(weight, "data", weight.data + 1),
    "other strides": lambda weight: setattr(weight, "data", weight.data.transpose(2, 3)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changes_that_pytorch_does_not_count_are_seen(change: str) -> None:
    network = build()
    digest = NetworkDigest(network)
    before = digest.compute()
    CHANGES[change](network[0].weight)
    assert digest.compute() != before


@pytest.mark.parametrize("change", CHANGES)
def test_sums_of_other_devices_see_the_same_changes(change: str) -> None:
    network = nn.Sequential(nn.Conv2d(64, 301, 3), nn.Linear(5, 3))
    before = _DeviceMemory(list(network.parameters())).summarise()
    weight = network[0].weight
    kept = weight.data.clone()
    CHANGES[change](weight)
    if change not in ("other memory", "other strides"):  # a digest is told about those apart
        assert _DeviceMemory(list(network.parameters())).summarise() != before
        weight.data.copy_(kept)
        assert _DeviceMemory(list(network.parameters())).summarise() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_computes_the_same_digest(network: nn.Module) -> None:
    digest = NetworkDigest(network)
    expected = digest.compute()
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork"), _keep, (digest,)) as pool:
        assert pool.submit(_compute_kept).result(timeout=200) == expected


def _keep(digest: NetworkDigest) -> None:
    global kept
    kept = digest


def _compute_kept() -> bytes:
    return kept.compute()


def test_a_vector_written_into_the_parameters_is_seen() -> None:
    network = build()
    digest = NetworkDigest(network)
    before = digest.compute()
    vector = parameters_to_vector(network.parameters()).detach()
    vector_to_parameters(vector + 1, network.parameters())  # they are views of one vector from now on
    between = digest.compute()
    assert between != before
    network[0].weight.data.view(-1)[1] += 1
    assert digest.compute() != between
    vector_to_parameters(vector, network.parameters())
    assert digest.compute() == before


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_every_layout_and_type_is_read(layout: torch.memory_format, dtype: torch.dtype) -> None:
    network = build().to(dtype=dtype)
    network[0].to(memory_format=layout)
    digest = NetworkDigest(network)
    before = digest.compute()
    network[0].weight.data[7300, 63, 2, 2] += 1
    assert digest.compute() != before


def test_structure_counts_and_other_memory_does_not() -> None:
    network = build()
    digest = NetworkDigest(network)
    before = digest.compute()
    network[0].weight.data = network[0].weight.data.clone()
    network[1].num_batches_tracked += 1
    assert digest.compute() == before
    assert NetworkDigest(copy.deepcopy(network)).compute() == before

    changes: list[Callable[[], object]] = [
        lambda: network[0].register_forward_hook(lambda *_: None),
        lambda: network[2].register_forward_pre_hook(lambda *_: None),
        lambda: parametrize.register_parametrization(network[2], "weight", nn.Tanh()),
        lambda: parametrize.remove_parametrizations(network[2], "weight"),
        lambda: network.__setitem__(2, copy.deepcopy(network[2])),
        lambda: setattr(network[2], "bias", nn.Parameter(torch.zeros(3))),
    ]
    seen = {before}
    for change in changes:
        change()
        seen.add(digest.compute())
    assert len(seen) == len(changes) + 1


def test_a_network_without_large_or_any_tensors_has_a_digest(tiny_network: Segmenter) -> None:
    assert NetworkDigest(nn.ReLU()).compute() == NetworkDigest(nn.ReLU()).compute()
    assert NetworkDigest(tiny_network).compute() == NetworkDigest(tiny_network).compute()
