from __future__ import annotations

import pytest
import torch
from torch import nn

from atrous.networks.build import build_network_from
from atrous.networks.segmenter import Segmenter
from atrous.studies.cost import count_flops, time_step
from atrous.studies.study import Base


@pytest.fixture(scope="module")
def network() -> Segmenter:
    return build_network_from({"name": "fcn-resnet18"}, 3).eval()


def count_naively(network: Segmenter, size: int) -> int:
    """Two operations for each weight of each convolution at each place of its output."""
    total = 0

    def add(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal total
        total += 2 * module.weight.numel() * output.shape[2] * output.shape[3]

    hooks = [m.register_forward_hook(add) for m in network.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        network.forward_cells(torch.zeros(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    return total


def test_operations_are_those_of_the_convolutions(network: Segmenter) -> None:
    assert count_flops(network, 65) == count_naively(network, 65)


def test_each_scale_and_the_mirror_image_count(network: Segmenter) -> None:
    expected = 2 * (count_naively(network, 33) + count_naively(network, 65) + count_naively(network, 97))
    assert count_flops(network, 65, scales=(0.5, 1.0, 1.5), flip=True) == expected


def test_nothing_is_computed(network: Segmenter) -> None:
    """An image of 8193 pixels on a side would need gigabytes."""
    assert count_flops(network, 8193) > 1000 * count_flops(network, 129)


def test_a_step_is_timed_whatever_the_batch() -> None:
    configs = [Base(crop=65, batch=batch).load({}).config for batch in (4, 400)]
    few, many = (time_step(config, 6) for config in configs)
    assert 0 < few < many
