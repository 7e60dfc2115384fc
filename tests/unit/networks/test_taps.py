"""The gradient of an atrous convolution's weight, tap by tap."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from atrous.networks.layers import taps
from atrous.networks.layers.conv import Conv
from atrous.networks.layers.taps import convolve_by_taps, taps_miss_map


@pytest.mark.parametrize(
    ("kernel", "rate", "size"),
    [
        ((3, 3), (3, 3), (7, 9)),
        ((3, 3), (7, 8), (7, 9)),  # vertical side taps reach beyond every cell
        ((3, 3), (20, 20), (7, 9)),
        ((5, 3), (2, 4), (9, 5)),
        ((3, 3), (2, 2), (1, 4)),
    ],
)
@pytest.mark.parametrize("buffer_bytes", [1, taps.BUFFER_BYTES])
def test_gradients_are_those_of_a_convolution(
    kernel: tuple[int, int],
    rate: tuple[int, int],
    size: tuple[int, int],
    buffer_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(taps, "BUFFER_BYTES", buffer_bytes)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    inputs = draw(3, 4, *size), draw(5, 4, *kernel), draw(5)
    padding = (rate[0] * (kernel[0] // 2), rate[1] * (kernel[1] // 2))
    expected = F.conv2d(*inputs, padding=padding, dilation=rate)
    found = convolve_by_taps(*inputs, rate)
    torch.testing.assert_close(found, expected)
    towards = draw(*expected.shape).detach()
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, towards), torch.autograd.grad(expected, inputs, towards), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


def test_gradient_under_autocast_is_as_exact_as_bf16() -> None:
    torch.manual_seed(0)
    conv = Conv(16, 8, 3, padding=12, dilation=12, bias=False)
    features = torch.randn(2, 16, 17, 17)
    assert conv(features).grad_fn.name() == "_ConvolveByTapsBackward"
    towards = torch.randn(2, 8, 17, 17)
    (exact,) = torch.autograd.grad(conv(features), conv.weight, towards)
    with torch.autocast("cpu", torch.bfloat16):
        out = conv(features)
    assert out.dtype == torch.bfloat16
    (found,) = torch.autograd.grad(out, conv.weight, towards.bfloat16())
    assert found.dtype == torch.float32
    assert float((found - exact).abs().max() / exact.abs().max()) < 0.01


@pytest.mark.parametrize("bias", [False, True])
def test_layer_trains_as_a_plain_convolution(bias: bool) -> None:
    torch.manual_seed(0)
    layer = Conv(4, 5, 3, padding=9, dilation=9, bias=bias)
    plain = nn.Conv2d(4, 5, 3, padding=9, dilation=9, bias=bias)
    plain.load_state_dict(layer.state_dict())
    features = torch.randn(2, 4, 13, 13).contiguous(memory_format=torch.channels_last)
    for conv in (layer, plain):
        conv(features).square().sum().backward()
    for ours, theirs in zip(layer.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_products_by_tap_are_for_large_rates() -> None:
    features = torch.zeros(1, 4, 65, 65)

    def sparse(kernel: int, padding: int, **more: int) -> bool:
        return taps_miss_map(nn.Conv2d(4, 4, kernel, padding=padding, **more), features)

    assert sparse(3, 12, dilation=12)
    assert sparse(3, 36, dilation=36)
    assert not sparse(3, 1)
    assert not sparse(3, 4, dilation=4)
    assert not sparse(1, 0)
    assert not sparse(3, 36, dilation=36, groups=4)
    assert not sparse(3, 36, dilation=36, stride=2)
    assert not sparse(3, 0, dilation=24)  # its output is smaller
    assert not taps_miss_map(nn.Conv2d(4, 4, 3, padding="same", dilation=36), features)
    assert not taps_miss_map(nn.Conv2d(4, 4, 3, padding=36, dilation=36, padding_mode="reflect"), features)
    assert not taps_miss_map(nn.Conv2d(4, 4, 3, padding=36, dilation=36), features[:0])
