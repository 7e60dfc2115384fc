"""In a training step, maps that are read together lie alike in memory: others are read ten times as slowly."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import atrous

READ_TOGETHER = ("aten.cat.", "aten.add", "aten.mul", "_backward.")
FEWEST_CELLS = 13 * 13
"""Cells of a map that count: smaller ones are those of pools."""


class _Layouts(TorchDispatchMode):
    """Counts the operations that read maps of different layouts."""

    def __init__(self) -> None:
        super().__init__()
        self.mixed: Counter[tuple[Any, ...]] = Counter()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        listed = args[0] if isinstance(args[0], list | tuple) else args[:2]
        maps = [each for each in listed if isinstance(each, Tensor) and each.dim() == 4]
        maps = [each for each in maps if each.shape[2] * each.shape[3] >= FEWEST_CELLS]
        is_weighted = "convolution" in name  # which copies what lies otherwise
        if any(part in name for part in READ_TOGETHER) and not is_weighted and len(maps) > 1:
            self.names.add(name)
            layouts = {_find_order(each) for each in maps} - {()}
            if len(layouts) > 1:
                self.mixed[name, tuple(tuple(each.shape) for each in maps)] += 1
        return func(*args, **(kwargs or {}))


def _find_order(cells: Tensor) -> tuple[int, ...]:
    """Return the dimensions by their distance in memory; nothing of a map that repeats its values."""
    if 0 in cells.stride():
        return ()
    return tuple(sorted((each for each in range(4) if cells.shape[each] > 1), key=lambda each: cells.stride(each)))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("family", ["deeplabv3", "deeplabv3plus", "deeplabv2", "pspnet", "fcn"])
def test_maps_that_are_read_together_lie_alike(family: str, precision: str) -> None:
    network = atrous.build(f"{family}-resnet18", classes=3, weights="none", output_stride=16)
    network = network.to(memory_format=torch.channels_last).train()
    images = torch.zeros(4, 3, 209, 209, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    with _Layouts() as seen:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits = network.forward_cells(images).logits
        logits.backward(torch.ones_like(logits))
    assert {"aten.add.Tensor", "aten.native_batch_norm_backward.default"} & seen.names
    pooled = "aten.add.Tensor"  # the gradient of a pyramid's pools is made of matrix products of single channels
    found = {key: count for key, count in seen.mixed.items() if family != "pspnet" or key[0] != pooled}
    assert not found
