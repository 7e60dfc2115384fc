from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from atrous.core.errors import MachineError
from atrous.core.inputs import InputSpec
from atrous.losses.contracts import count_weight
from atrous.losses.cross_entropy import CrossEntropy
from atrous.networks.contracts import Backbone, FeatureLevel, FeatureShapes
from atrous.networks.heads.deeplabv3 import DeepLabV3Head
from atrous.networks.layers.conv import DepthwiseConv
from atrous.networks.segmenter import Segmenter
from atrous.training.compilation import compile_cells, require_compiler
from atrous.training.ema import AveragedNetwork
from atrous.training.task import TrainingTask

SIZE = 65


class SmallBackbone(Backbone):
    """Two blocks at native stride 16, one of them depthwise, with what makes a training differ from an evaluation."""

    input_spec = InputSpec(mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))

    def __init__(self) -> None:
        super().__init__()
        self.feature_shapes = FeatureShapes((FeatureLevel(8, 4), FeatureLevel(8, 32)))
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(DepthwiseConv(8, 3, stride=8), nn.BatchNorm2d(8), nn.ReLU(), DepthwiseConv(8, 3))

    def forward(self, image: Tensor) -> list[Tensor]:
        first = self.first(image)
        return [first, self.second(first)]


def build_small() -> Segmenter:
    torch.manual_seed(0)
    backbone = SmallBackbone()
    head = DeepLabV3Head(backbone.feature_shapes, 3, rates=(1, 2), channels=8, dropout=0.0)
    nn.init.normal_(head.classifier.weight)
    return Segmenter(backbone, head, num_classes=3).train()


def build_task(network: Segmenter, backend: str | None) -> TrainingTask:
    forward_cells = None if backend is None else compile_cells(network, backend=backend)
    return TrainingTask(network, CrossEntropy(), forward_cells=forward_cells)


def compute_gradients(task: TrainingTask, images: Tensor, *, bf16: bool) -> tuple[Tensor, dict[str, Tensor]]:
    labels = (images[:, 0] // 86).long()
    task.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = task(images, labels, count_weight(labels))
    loss.backward()
    return loss.detach(), {name: parameter.grad.clone() for name, parameter in task.named_parameters()}


def assert_follows_the_output_stride(backend: str, *, bf16: bool = False, batch: int = 4) -> None:
    torch.compiler.reset()
    plain, compiled = build_task(build_small(), None), build_task(build_small(), backend)
    images = torch.randint(256, (batch, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(1)).byte()
    losses = []
    for output_stride in (16, 8, 16):
        found = []
        for task in (plain, compiled):
            task.network.output_stride = output_stride
            found.append(compute_gradients(task, images, bf16=bf16))
        (expected, gradients), (loss, own) = found
        tolerance = {"rtol": 0.05, "atol": 0.01} if bf16 else {"rtol": 1e-3, "atol": 1e-5}
        torch.testing.assert_close(loss, expected, **tolerance)
        if bf16:  # as a whole: fused operations round less often, and some gradients are nothing but roundings
            difference, whole = (
                torch.cat([part.flatten() for part in parts]).norm()
                for parts in ([own[name] - gradient for name, gradient in gradients.items()], gradients.values())
            )
            assert difference < 0.15 * whole  # eager bf16 itself is 0.07 from fp32
        else:
            torch.testing.assert_close(own, gradients, **tolerance)
        losses.append(expected.item())
    assert abs(losses[0] - losses[1]) > 1e-3  # the strides are told apart
    torch.testing.assert_close(compiled.state_dict(), plain.state_dict(), rtol=0.01, atol=0.01)  # norms' statistics


@pytest.mark.slow
@pytest.mark.parametrize(("bf16", "batch"), [(False, 2), (False, 4), (True, 4)])
def test_loss_and_gradients_follow_the_output_stride(bf16: bool, batch: int) -> None:
    assert_follows_the_output_stride("aot_eager", bf16=bf16, batch=batch)


@pytest.mark.slow
@pytest.mark.parametrize("bf16", [False, True])
def test_loss_and_gradients_follow_the_output_stride_through_the_compiler(bf16: bool) -> None:
    assert_follows_the_output_stride("inductor", bf16=bf16)


@pytest.mark.parametrize("batch", [4, 2])
def test_a_network_is_one_graph_and_each_stride_is_compiled_once(batch: int) -> None:
    """A batch of two has too few values for a norm: its other way may not break the graph."""
    torch.compiler.reset()
    graphs = []

    def count(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    network = build_small()
    forward_cells = compile_cells(network, backend=count)
    for output_stride, expected in ((16, 1), (8, 2), (16, 2), (8, 2)):
        network.output_stride = output_stride
        forward_cells(torch.zeros(batch, 3, SIZE, SIZE, dtype=torch.uint8))
        assert len(graphs) == expected


class Doubling(nn.Module):
    """A network that compiles in no time."""

    def forward_cells(self, images: Tensor) -> Tensor:
        return images * 2


def test_networks_of_many_stages_are_all_compiled_and_the_callers_functions_stay_compiled() -> None:
    """PyTorch gives up on a function after eight versions of it; resetting it would compile the caller's again."""
    graphs = []

    def count(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        graphs.append(graph)
        return graph.forward

    callers = torch.compile(torch.nn.Linear(2, 2), backend=count)
    callers(torch.zeros(1, 2))
    for number in range(1, 11):
        compile_cells(Doubling(), backend=count)(torch.zeros(2))
        assert len(graphs) == 1 + number
    callers(torch.zeros(1, 2))
    assert len(graphs) == 11


def test_names_of_tensors_are_those_of_a_plain_network() -> None:
    network = build_small()
    task = build_task(network, "eager")
    task(torch.zeros(4, 3, SIZE, SIZE, dtype=torch.uint8), torch.zeros(4, SIZE, SIZE).long(), torch.tensor(1.0))
    assert task.state_dict().keys() == build_task(build_small(), None).state_dict().keys()
    averaged = AveragedNetwork(network, 0.9)
    averaged.update(network, 0)
    assert (
        averaged.network.state_dict().keys()
        == network.state_dict().keys()
        == copy.deepcopy(network).state_dict().keys()
    )


def test_a_machine_without_a_compiler_is_refused_with_what_to_do(tmp_path: Path) -> None:
    from torch._inductor import config

    torch.compiler.reset()
    nowhere = config.patch({"cpp.cxx": (str(tmp_path / "c++"),)})
    with nowhere, pytest.raises(MachineError, match=r"training.compile: .*No working C\+\+ compiler") as caught:
        require_compiler(torch.device("cpu"))
    assert "g++" in caught.value.hint
    assert "switch training.compile off" in caught.value.hint


def test_a_machine_with_a_compiler_is_taken() -> None:
    torch.compiler.reset()
    require_compiler(torch.device("cpu"))
