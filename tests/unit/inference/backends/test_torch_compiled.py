from __future__ import annotations

import functools
import inspect

import pytest
import torch

from atrous.inference.engine import Engine
from tiny import build_tiny

IMAGE = torch.zeros(1, 3, 33, 33, dtype=torch.uint8)


@pytest.mark.skipif(
    "recompile_limit" not in inspect.signature(torch.compile).parameters, reason="this PyTorch has one limit for all"
)
def test_many_networks_are_compiled_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[int] = []

    def note(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        compiled.append(1)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=note))
    with torch._dynamo.config.patch(recompile_limit=1):
        for num_classes in (3, 4):
            network = build_tiny()
            network.head.classifier = torch.nn.Conv2d(network.head.classifier.in_channels, num_classes, 1)
            logits = Engine(network, device="cpu", backend="compile").open_backend(16, "fp32")(IMAGE).logits
            assert logits.shape[1] == num_classes
    assert len(compiled) == 2
