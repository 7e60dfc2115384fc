"""What a training computes again instead of keeping it."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from atrous.networks.layers.recomputation import Layers, norm_act, recomputing


def _build(act: type[nn.Module], *, seed: int = 0) -> Layers:
    torch.manual_seed(seed)
    layers = Layers(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), act(inplace=True), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4))
    with torch.no_grad():
        layers[1].weight.uniform_(0.5, 8)  # so that a good part lies above 6
    return layers


def _train(layers: nn.Module, features: Tensor, *, bf16: bool = False) -> tuple[Tensor, list[Tensor]]:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = layers(features)
    out.float().mul(torch.linspace(-1, 1, out.shape[-1])).sum().backward()
    return out.detach(), [weight.grad for weight in layers.parameters() if weight.grad is not None]


@pytest.mark.parametrize("act", [nn.ReLU, nn.ReLU6])
@pytest.mark.parametrize("channels_last", [False, True])
def test_training_is_that_of_the_modules(act: type[nn.Module], channels_last: bool) -> None:
    layers = _build(act)
    plain = nn.Sequential(*copy.deepcopy(layers))
    features = torch.randn(2, 3, 9, 7).contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )
    expected, expected_gradients = _train(plain, features)
    with recomputing():
        found, gradients = _train(layers, features)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients, expected_gradients)
    torch.testing.assert_close(layers.state_dict(), plain.state_dict())  # running statistics and counters


def test_training_in_bf16_is_that_of_the_modules() -> None:
    layers = _build(nn.ReLU6)
    plain = nn.Sequential(*copy.deepcopy(layers))
    features = torch.randn(2, 3, 9, 7)
    expected, expected_gradients = _train(plain, features, bf16=True)
    with recomputing():
        found, gradients = _train(layers, features, bf16=True)
    torch.testing.assert_close(found, expected)
    # Statistics that are computed back from their roots may turn a last bit, and with it a value's rounding.
    torch.testing.assert_close(gradients, expected_gradients, rtol=0.02, atol=0.02)


def test_a_gradient_can_be_taken_twice() -> None:
    layers = _build(nn.ReLU)
    with recomputing():
        loss = layers(torch.randn(2, 3, 9, 7)).square().sum()
    first = torch.autograd.grad(loss, list(layers.parameters()), retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(loss, list(layers.parameters())), first)


def test_maps_are_kept_once_and_weights_not_copied() -> None:
    layers = nn.Sequential(*(Layers(nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64), nn.ReLU(inplace=True)) for _ in range(8)))
    features = torch.randn(4, 64, 32, 32)
    map_bytes = features.numel() * 2

    def measure_kept() -> float:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            with torch.autocast("cpu", torch.bfloat16):
                out = layers(features)
        assert out.requires_grad
        return sum(event.self_cpu_memory_usage for event in profiler.key_averages()) / map_bytes

    plain = measure_kept()
    with recomputing():
        lean = measure_kept()
    assert plain > 16  # a map of each convolution and each ReLU
    assert lean < 10.5  # those of the convolutions, the first input's copy and the last output


def test_a_pass_without_backward_leaves_nothing_behind() -> None:
    def count_tensors() -> int:
        gc.collect()
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    layers = _build(nn.ReLU).append(nn.Sigmoid())  # which keeps its own output
    features = torch.randn(2, 3, 9, 7)
    before = count_tensors()
    for _ in range(3):
        with recomputing():
            assert layers(features).requires_grad
    assert count_tensors() == before


def test_hooks_of_norms_and_activations_are_called() -> None:
    layers = _build(nn.ReLU)
    called: list[str] = []
    for module in layers:
        module.register_forward_hook(lambda module, *_: called.append(type(module).__name__))
    layers(torch.randn(2, 3, 9, 7))
    assert called == ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d"]


def test_frozen_and_resting_norms_run_as_they_are() -> None:
    features = torch.randn(2, 8, 5, 5)
    norm = nn.BatchNorm2d(8)
    norm.running_mean.uniform_(-1, 1)  # type: ignore[union-attr]
    expected = norm.eval()(features).relu()
    torch.testing.assert_close(norm_act(norm, nn.ReLU(), features), expected)
    with torch.no_grad():
        torch.testing.assert_close(norm_act(norm.train(), nn.ReLU(), features), norm(features).relu())
    hard = nn.Hardswish()
    torch.testing.assert_close(norm_act(norm, hard, features), hard(norm(features)))
    bare = nn.BatchNorm2d(8, affine=False)
    torch.testing.assert_close(norm_act(bare, nn.ReLU(), features), bare(features).relu())


def test_one_value_a_channel_is_refused_as_by_the_norm() -> None:
    with pytest.raises(ValueError, match="more than 1 value"):
        norm_act(nn.BatchNorm2d(8), nn.ReLU(), torch.randn(1, 8, 1, 1))
