"""Every rule gives the shape that PyTorch computes, or leaves the operation to it."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from atrous.networks.shape_rules import ShapeRules

SIDE = st.integers(1, 24)
PAIR = st.tuples(st.integers(1, 4), st.integers(1, 4))


def require_equal(module: nn.Module, height: int, width: int, channels: int = 4) -> None:
    """Compare the shape that a module gives by the rules with the one that it computes, or both errors."""
    try:
        wanted = tuple(module.eval()(torch.zeros(2, channels, height, width)).shape)
    except RuntimeError:
        wanted = None
    try:
        with ShapeRules():
            found = tuple(module.to("meta")(torch.zeros(2, channels, height, width, device="meta")).shape)
    except RuntimeError:
        found = None
    assert found == wanted


@settings(max_examples=60, deadline=None)
@given(height=SIDE, width=SIDE, size=PAIR, step=PAIR, pad=PAIR, rate=PAIR, groups=st.sampled_from([1, 2]))
def test_convolutions(height, width, size, step, pad, rate, groups):
    conv = nn.Conv2d(4, 6, size, step, padding=(pad[0] - 1, pad[1] - 1), dilation=rate, groups=groups)
    require_equal(conv, height, width)


@settings(max_examples=60, deadline=None)
@given(height=SIDE, width=SIDE, size=st.integers(2, 4), step=st.integers(1, 3), rate=PAIR, ceil=st.booleans())
def test_poolings(height, width, size, step, rate, ceil):
    require_equal(nn.MaxPool2d(size, step, padding=size // 2, dilation=rate, ceil_mode=ceil), height, width)


class Gate(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * image.mean(dim=(2, 3), keepdim=True) + image.mean((-2, -1), keepdim=True)


class Grow(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean(dim=(2, 3), keepdim=True) + image


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(
            nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.ReLU6(), nn.Hardswish(), nn.Hardsigmoid(), nn.SiLU()
        ),
        Gate(),
        Grow(),
        nn.Conv2d(4, 6, 3, padding="same"),
        nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(3, 6, 3),
        nn.MaxPool2d(3),
        nn.AvgPool2d(2),
        nn.Flatten(),
    ],
    ids=lambda module: type(module).__name__,
)
def test_other_modules(module):
    require_equal(module, 9, 7)


def test_networks_are_built_without_the_compiler_of_pytorch():
    code = (
        "import sys; from atrous.networks.build import build_network_from\n"
        "for name in ('deeplabv3-lite0', 'deeplabv3-resnet18', 'deeplabv3-mobilenet_v3_large'):\n"
        "    build_network_from({'name': name}, 3)\n"
        "print([name for name in ('torch._dynamo', 'sympy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
