from __future__ import annotations

import inspect

import pytest
import torch

from atrous.graphs.trace import INPUT_NAME, Output, trace_network
from atrous.networks.contracts import UNPADDED
from atrous.networks.segmenter import Segmenter

SHAPES = ((2, 3, 75, 101), (1, 3, 1, 1), (1, 3, 1, 40), (3, 3, 37, 2), (1, 3, 33, 65), (1, 3, 64, 32))


@pytest.mark.parametrize("output", ["cells", "logits", "labels"])
@pytest.mark.parametrize("aligned", [True, False])
def test_the_graph_answers_as_the_network_at_any_size(tiny_network: Segmenter, output: Output, aligned: bool) -> None:
    """The usual mistake: a branch on the size of the image that was traced becomes everybody's."""
    tiny_network.aligned = aligned
    if not aligned:
        tiny_network.size_rule = UNPADDED
    program = trace_network(tiny_network, output)
    [name] = program.graph_signature.user_inputs
    assert name == INPUT_NAME
    unchecked = {"check_guards": False} if "check_guards" in inspect.signature(program.module).parameters else {}
    graph = program.module(**unchecked)
    for shape in SHAPES:
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(shape[2]))
        with torch.inference_mode():
            found, logits = graph(images), tiny_network(images)
            cells = tiny_network.forward_cells(images).logits
        expected = {"cells": cells, "logits": logits, "labels": logits.argmax(dim=1)}[output]
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected)
